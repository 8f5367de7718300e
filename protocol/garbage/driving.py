"""Carries out the steps of a collection, one command after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, assert_never

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.garbage.collect import Asking, T
from dreamer.protocol.garbage.commands import (
    AbortUpload,
    Command,
    Deleted,
    DeleteKeys,
    ListKeys,
    ListUploads,
    OpenUpload,
    Pause,
    ReadClock,
    ReadKey,
    ReadManifest,
    ReadNames,
    StoredKey,
    WriteKey,
)
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.ids import Digest
from dreamer.protocol.origin_limits import ORIGIN_LISTED_PER_ANSWER


class Hands(Protocol):
    """What whoever collects can do at an origin, as the commands ask it; blocks.

    Raises:
        DreamerError: from any method: the collection ends.
    """

    def names(self) -> RoomNames | None:
        """Answer ``ReadNames``."""
        ...

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Answer ``ReadKey``."""
        ...

    def manifest(self, digest: Digest) -> bytes | None:
        """Answer ``ReadManifest``."""
        ...

    def listed(self, prefix: str) -> Iterator[StoredKey]:
        """Yield every key that begins so."""
        ...

    def uploads(self, prefix: str) -> tuple[OpenUpload, ...]:
        """Answer ``ListUploads``."""
        ...

    def write(self, command: WriteKey) -> str | None:
        """Answer ``WriteKey``."""
        ...

    def delete(self, command: DeleteKeys) -> Deleted:
        """Answer ``DeleteKeys``."""
        ...

    def abort(self, upload: OpenUpload) -> bool:
        """Answer ``AbortUpload``."""
        ...

    def now(self) -> float:
        """Answer ``ReadClock``."""
        ...

    def wait(self, seconds: float) -> None:
        """Answer ``Pause``."""
        ...


class Answers:
    """Answers the commands of one collection with somebody's hands."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._listings: dict[str, Iterator[StoredKey]] = {}

    def to(self, command: Command) -> Any:
        """Return the answer to a command, as its docstring says."""
        hands = self._hands
        match command:
            case ReadNames():
                return hands.names()
            case ReadKey():
                return hands.read(command.key)
            case ReadManifest():
                return hands.manifest(command.digest)
            case ListKeys():
                return self._page(command.prefix)
            case ListUploads():
                return hands.uploads(command.prefix)
            case ReadClock():
                return hands.now()
            case Pause():
                return hands.wait(command.seconds)
            case _:
                return self._changed(command)

    def _changed(self, command: WriteKey | DeleteKeys | AbortUpload) -> Any:
        match command:
            case WriteKey():
                return self._hands.write(command)
            case DeleteKeys():
                return self._hands.delete(command)
            case AbortUpload():
                return self._hands.abort(command.upload)
            case _:
                assert_never(command)

    def _page(self, prefix: str) -> tuple[StoredKey, ...]:
        listing = self._listings.get(prefix)
        if listing is None:
            listing = self._listings[prefix] = self._hands.listed(prefix)
        page = tuple(itertools.islice(listing, ORIGIN_LISTED_PER_ANSWER))
        if not page:
            # Listed again, it is listed anew.
            del self._listings[prefix]
        return page


def drive(steps: Asking[T], answer: Callable[[Command], Any]) -> T:
    """Return what the steps return, each command answered by ``answer``.

    Raises:
        DreamerError: what the steps raise, or ``answer`` did.
    """
    go_on: Callable[[], Command] = partial(next, steps)
    while True:
        try:
            command = go_on()
        except StopIteration as ended:
            returned: T = ended.value
            return returned
        try:
            go_on = partial(steps.send, answer(command))
        except DreamerError as error:
            # The steps may have something left to do, such as taking off a mark; then they raise.
            go_on = partial(steps.throw, error)
