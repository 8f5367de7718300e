"""The origin is not asked for what live members could give.

It costs money by the byte, so it gives what nobody else has. Asking it for more is allowed only

- once no member has brought anything for ``ORIGIN_AFTER_NO_PROGRESS_S``: whoever claims to have the
  blocks and sends none must not keep a pull from its end;
- for blocks of members whose lane carries nothing at present (a spent relay budget), or that let a
  request time out and have brought nothing since, unless these are whole: what only they have is
  left to them for as long as above.

What members will have soon is another matter: in a crowd each asks the origin for its own share,
for part of the share of one that is slow, and for the share of one that gets nothing done
(``protocol/swarm/crowd.py``). Nobody holds those blocks yet, so none of it is against this rule;
that shares are not fetched twice shows in ``origin.copies``, which scenarios bound.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamer.protocol.limits import ORIGIN_AFTER_NO_PROGRESS_S
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import Fetch
from dreamer.simulations.engine.origin import ORIGIN
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.invariants.books import Account
from dreamer.simulations.invariants.invariant import Check, Invariant, naming

ROUNDING_S = 1e-3
"""A machine whose clock is off by years adds up its seconds less exactly."""


class OriginSpared(Invariant):
    """Looks at each request to the origin."""

    name = "origin spared"

    @property
    def commands(self) -> Mapping[type, Check]:
        """Requests."""
        return {Fetch: self._fetch}

    def _fetch(self, pull: Pull, account: Account, command: Fetch, now: float) -> None:
        if command.source != ORIGIN:
            return
        if now + ROUNDING_S >= account.peers_brought_at + ORIGIN_AFTER_NO_PROGRESS_S:
            return
        elsewhere = bitfield.span(command.first, command.count) & account.available()
        if elsewhere:
            words = f"asks the origin for {naming(elsewhere)}, which members can give it"
            self.broken(pull.node, now, words)
