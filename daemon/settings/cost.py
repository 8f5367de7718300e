"""Settings of what moving models costs, and of when to say that it is too much."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.setting_checks import between, parsed
from dreamer.daemon.settings.key import key
from dreamer.protocol.cache_limits import COST_CURRENCY_MAX_CHARS, COST_PRICE_MAX
from dreamer.protocol.cost_alerts import Threshold, parse_alerts
from dreamer.protocol.costs import Prices

_LIST = Prices()
_price = between(0, COST_PRICE_MAX)


def _a_currency(value: str) -> str | None:
    good = 0 < len(value) <= COST_CURRENCY_MAX_CHARS and value.isprintable()
    return None if good else f"a word of at most {COST_CURRENCY_MAX_CHARS} letters, such as USD"


@dataclass(frozen=True)
class CostSection:
    """What is paid for moving models, for `dreamer cost`. A GB is 10**9 bytes.

    The defaults are list prices of a large object store and of a TURN service billed by what it
    sends; look up yours. Nothing is bought or limited by these.
    """

    currency: str = key("USD", "What the prices are in.", _a_currency)
    egress_gb: float = key(_LIST.egress_gb, "Out of a room's origin, a GB.", _price)
    get_1000: float = key(_LIST.get_1000, "A thousand GET and HEAD requests to it.", _price)
    put_1000: float = key(
        _LIST.put_1000, "A thousand PUT, POST and COPY requests (each part of an upload).", _price
    )
    list_1000: float = key(_LIST.list_1000, "A thousand LIST requests.", _price)
    turn_gb: float = key(
        _LIST.turn_gb,
        "Through the TURN servers that this node uses, a GB, every byte once. 0 for your own.",
        _price,
    )
    peer_gb: float = key(
        _LIST.peer_gb,
        "From other nodes (direct, webrtc, relay, torrent), a GB received. A local network costs "
        "nothing; a cloud may charge for traffic between its zones.",
        _price,
    )
    storage_gb_month: float = key(
        _LIST.storage_gb_month, "Keeping a GB in the origin for a month; shown apart.", _price
    )
    alerts: tuple[str, ...] = key(
        (),
        "What to be warned of, for this node alone: origin_gb, relay_gb or cost, per_day or "
        'per_month (UTC), such as ["origin_gb_per_day=50", "cost_per_month=100", '
        '"relay_gb_per_month=20"]. Said in the log, in `dreamer status` and as metrics.',
        parsed(parse_alerts),
    )

    def prices(self) -> Prices:
        """Return the prices among these."""
        return Prices(
            *(self.egress_gb, self.get_1000, self.put_1000, self.list_1000),
            *(self.turn_gb, self.peer_gb, self.storage_gb_month),
        )

    def thresholds(self) -> tuple[Threshold, ...]:
        """Return the alerts among these."""
        return parse_alerts(self.alerts)
