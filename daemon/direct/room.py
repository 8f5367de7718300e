"""What the two sides of a direct lane need of their room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dreamer.daemon.direct.dialling import Dialled, Taken
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.direct.reports import Report
from dreamer.daemon.links.link import Fanout, Link
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.ids import NodeId, short

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DirectRoom:
    """One room's view of the node's endpoint. ``drop`` closes the link to a peer, and says why."""

    endpoint: DirectEndpoint
    ours: NodeId
    fanout: Fanout
    drop: Callable[[NodeId, str], None]
    tasks: TaskSet
    rng: Random
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop

    def dial(self, dialled: Dialled, taken: Taken) -> None:
        """Dial in the background."""
        self.tasks.start(self._dial(dialled, taken))

    async def _dial(self, dialled: Dialled, taken: Taken) -> None:
        await self.endpoint.dial(dialled, taken)

    def guarded(
        self, link: Link, deliver: Callable[[list[Report]], None], batch: list[Report]
    ) -> None:
        """Deliver what threads report; what can't be handled costs the link, not the node."""
        try:
            deliver(batch)
        except Exception as error:
            log.exception("dropping the link to %s", short(link.peer))
            self.drop(link.peer, f"a block could not be handled: {error}")
