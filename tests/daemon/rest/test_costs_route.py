"""``GET cost`` and the client that asks for it."""

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.surfaces.costs import CostFigures, CostReport, NodeCost, RoomCost
from dreamer.protocol.errors import InputError, NoMatchError


def test_costs_are_one_object_of_this_node_and_its_rooms(served):
    status, found = served.json("GET", "/cost")
    assert (status, served.node.costs.asked) == (200, [(None, None)])
    assert (found["month"], found["currency"], found["first_month"]) == (None, "USD", "2026-01")
    assert found["this_node"]["saved"] == 8.0
    (room,) = found["rooms"]
    assert (room["members"], room["reported"], len(room["nodes"])) == (5, 2, 2)
    assert room["nodes"][1]["age_s"] == 7200.0


def test_a_month_and_a_room_are_passed_on_and_nothing_else_is_taken(served):
    assert served.json("GET", "/cost?month=2026-10&room=lab")[0] == 200
    assert served.node.costs.asked == [("2026-10", "lab")]
    status, answer = served.json("GET", "/cost?year=2026")
    assert (status, "month, room" in answer["error"]["message"]) == (400, True)
    assert served.json("GET", "/cost?month=2026-99")[0] == 400
    assert served.json("GET", "/cost?room=nowhere")[0] == 404


def test_the_client_makes_values_of_it(served):
    costs = Dreamer(served.home).costs
    found = costs.read("2026-10", "lab")
    assert isinstance(found, CostReport)
    assert isinstance(found.this_node, CostFigures)
    (room,) = found.rooms
    assert isinstance(room, RoomCost)
    assert room.nodes[0] == NodeCost("ef" * 32, "memory", True, None, found.this_node)
    assert found.models[1].figures.lists == 4
    with pytest.raises(InputError, match="YYYY-MM"):
        costs.read("october")
    with pytest.raises(NoMatchError):
        costs.read(room="nowhere")
