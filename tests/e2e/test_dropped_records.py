"""A member that may write the registry leaves out the models of others: real daemons, a tracker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.document import parse
from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WAIT_S = 60.0


def models(node) -> dict[str, tuple[str, ...]]:
    return {model.name: model.aliases for model in Dreamer(node.home).models("lab")}


async def test_models_that_a_writer_drops_are_kept_and_put_back(team, at_tracker):
    keeper = team.node("keeper")
    team.room(keeper, "lab")
    rogue = team.member("rogue", keeper)
    keeper.dreamer("push", str(team.model("weights", 1000)), "--room", "lab", "--alias", "prod")
    wanted = models(keeper)
    assert wanted == {"weights": ("prod",)}
    rogue.process.stop()
    async with at_tracker(rogue, "lab") as hand:
        # A change of its own first: what it writes then is no older than what others saw.
        await hand.publish(ManifestId(b"r" * 32), "mine")
        data, _ = await hand.read()
        document = parse(data, hand.membership.card.room_id)
        left = {key: one for key, one in document.models.items() if key == b"r" * 32}
        assert len(left) < len(document.models)
        await hand.replace(replace(document, models=left, aliases={}).encode())

    def told() -> bool:
        return "dropped from the document without a signed end" in keeper.process.log.read_text()

    assert models(keeper) == {**wanted, "mine": ()}
    until(told, "the log saying so", WAIT_S)
    # Whoever comes later never saw what was dropped, and finds it all the same.
    newcomer = team.member("newcomer", keeper)
    until(lambda: models(newcomer) == {**wanted, "mine": ()}, "all models put back", WAIT_S)
