"""Everything about costs that a node has, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dreamer.daemon.costs.account import Accounts
from dreamer.daemon.costs.alerts import CostAlerts
from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.costs.metrics import cost_metrics
from dreamer.daemon.costs.reading import CostReader
from dreamer.daemon.costs.served import Served
from dreamer.daemon.metrics import Metric
from dreamer.daemon.settings.cost import CostSection
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.cost_alerts import AlertWatch
from dreamer.protocol.costs import RELAY, Entry, What
from dreamer.protocol.ids import ManifestId, NodeId, RoomId

if TYPE_CHECKING:
    from dreamer.daemon.room.keeper import RoomKeeper


class CostParts:
    """The ledger of a node and all that writes into it or reads it."""

    def __init__(self, settings: CostSection, state: State, library: Library) -> None:
        self._settings = settings
        self._state = state
        self.ledger = Ledger(state.database)
        self.accounts = Accounts(self.ledger)
        self.accounts.watch(library)
        self.served = Served(
            self.ledger, lambda room, manifest_id: library.find(room, manifest_id) is not None
        )
        self.ledger.sources.append(self.served.look)
        watch = AlertWatch(settings.thresholds(), settings.prices())
        self.alerts = CostAlerts(self.ledger, watch)

    def start(self, tasks: TaskSet) -> None:
        """Begin to write and to watch."""
        tasks.start(self.ledger.run())
        tasks.start(self.alerts.run())

    def close(self) -> None:
        """Write the last of it down, when nothing moves any more."""
        self.ledger.settle()

    def relayed(self, room: RoomId, size_bytes: int) -> None:
        """Take bytes over this node's own TURN allocations."""
        self.ledger.add(room, None, Entry(RELAY, What.PAID), size_bytes)

    def seeded(self, room: RoomId, manifest_id: ManifestId, size_bytes: int) -> None:
        """Take bytes that strangers were given of a public model."""
        self.ledger.add(room, manifest_id, Entry("torrent", What.UP), size_bytes)

    def reader(self, us: NodeId, name: str, rooms: RoomKeeper) -> CostReader:
        """Return the facet for the surfaces."""
        prices, currency = self._settings.prices(), self._settings.currency
        return CostReader(
            *(us, name, self.ledger, self._state, rooms, prices, currency, self.alerts)
        )

    def metrics(self) -> Iterable[Metric]:
        """Return the metrics of all this.

        Raises:
            LocalError: the ledger can't be read.
        """
        return cost_metrics(self.ledger, self._settings.prices(), self.alerts.standing())
