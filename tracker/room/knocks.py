"""The sockets at ``/room`` that have not logged in: what strangers can hold open is bounded.

Few for each address, by the /64 for IPv6. When all places are taken, a newcomer gets that of the
oldest from the address that holds most: whoever fills them up turns out its own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from dreamer.protocol.tracker_limits import (
    TRACKER_KNOCKS_MAX,
    TRACKER_KNOCKS_PER_ADDRESS,
    TRACKER_LOGINS_BURST,
    TRACKER_LOGINS_PER_S,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room.refusal import Reason, RefusedError
from dreamer.tracker.sites import site_of


class Knock:
    """One socket until it is let in or gone; ``end`` may be called more than once."""

    def __init__(self, knocks: Knocks, site: str, cut: Callable[[], None]) -> None:
        self.site = site
        self.cut = cut
        self._knocks = knocks

    def end(self) -> None:
        """Give the place back."""
        self._knocks.forget(self)

    def __enter__(self) -> Knock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Knocks:
    """Everybody at the door, by address and in order of coming."""

    def __init__(self, by_address: bool = True) -> None:
        """``by_address`` is False behind a proxy, where all seem to come from one."""
        self._by_address = by_address
        self._by_site: dict[str, dict[Knock, None]] = {}
        self._count = 0
        self._paces = Paces(TRACKER_LOGINS_PER_S, TRACKER_LOGINS_BURST)

    def __len__(self) -> int:
        return self._count

    def begin(self, address: str, cut: Callable[[], None], now: float) -> Knock:
        """Give a socket a place; ``cut`` ends it when somebody else needs the place more.

        Raises:
            RefusedError: too many are there from its address, or came lately.
        """
        site = site_of(address)
        if self._by_address:
            self._check(site, now)
        if self._count >= TRACKER_KNOCKS_MAX:
            self._turn_one_out()
        knock = Knock(self, site, cut)
        self._by_site.setdefault(site, {})[knock] = None
        self._count += 1
        return knock

    def forget(self, knock: Knock) -> None:
        """Take back a place, if it is still that socket's."""
        places = self._by_site.get(knock.site, {})
        # None is what the dict holds, so something else must stand for absence.
        if places.pop(knock, knock) is knock:
            return
        self._count -= 1
        if not places:
            del self._by_site[knock.site]

    def _check(self, site: str, now: float) -> None:
        crowded = len(self._by_site.get(site, ())) >= TRACKER_KNOCKS_PER_ADDRESS
        if crowded or not self._paces.allows(site, now):
            raise RefusedError(
                Reason.FULL,
                "too many logins come from this address: wait some seconds, then try again",
            )

    def _turn_one_out(self) -> None:
        crowd = max(self._by_site.values(), key=len)
        oldest = next(iter(crowd))
        self.forget(oldest)
        oldest.cut()
