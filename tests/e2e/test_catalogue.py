"""A room's models as people use them: found by queries, promoted, protected, traced, watched."""

from __future__ import annotations

import queue
import threading

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, NoMatchError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WAIT_S = 60.0


@pytest.fixture(scope="module")
def keeper(team):
    """The node that made the room: its admin."""
    made = team.node("keeper")
    team.room(made, "lab")
    return made


@pytest.fixture(scope="module")
def publisher(team, keeper):
    """A node that may publish, and is no admin."""
    return team.member("publisher", keeper)


@pytest.fixture(scope="module")
def models(team, keeper, publisher):
    """Three generations, each trained from the one before; their receipts, the oldest first."""
    first = keeper.dreamer(
        *("push", str(team.model("base", 1000)), "--room", "lab", "--alias", "production"),
        *("--tag", "validated", "--metric", "val_loss=0.05", "--note", "the first one"),
    )
    second = publisher.dreamer(
        *("push", str(team.model("tuned", 2000)), "--room", "lab", "--alias", "staging"),
        *("--tag", "validated", "--trained-from", "production", "--trained-by", "anna's job 7"),
        *("--metric", "val_loss=0.021", "--config", "epochs=3", "--config", "data=wiki"),
    )
    third = publisher.dreamer(
        *("push", str(team.model("distilled", 3000)), "--room", "lab", "--alias", "next"),
        *("--trained-from", "staging", "--metric", "val_loss=0.04"),
    )
    return first, second, third


def names(node, *query: str) -> list[str]:
    return [model["name"] for model in node.dreamer("models", *query)["models"]]


def test_queries_find_by_tag_type_and_metric(keeper, models):
    query = "tag:validated and type:files and metrics.val_loss < 0.03"
    assert names(keeper, query) == ["tuned"]
    assert names(keeper, "tag:validated", "or", "alias:next") == ["distilled", "tuned", "base"]
    assert names(keeper, "config.epochs = 3") == ["tuned"]
    assert names(keeper, models[2]["short_id"]) == ["distilled"]


def test_query_that_can_not_be_read_is_refused_with_its_place(keeper, watch):
    watch.one_line(keeper.try_dreamer("models", "tag:a and"), "at its end", "val_loss < 0.03")


def test_model_says_where_it_comes_from(publisher, models):
    shown = publisher.dreamer("show", "staging")
    assert shown["parents"] == [models[0]["manifest_id"]]
    assert (shown["trained_by"], shown["metrics"]) == ("anna's job 7", {"val_loss": 0.021})
    assert shown["config"] == {"epochs": 3, "data": "wiki"}
    assert publisher.dreamer("show", models[0]["short_id"])["notes"] == "the first one"


def test_lineage_goes_up_and_down(keeper, models):
    ids = [model["manifest_id"] for model in models]
    found = keeper.dreamer("lineage", models[1]["short_id"])
    assert [(kin["manifest_id"], kin["depth"]) for kin in found["ancestors"]] == [(ids[0], 1)]
    assert [(kin["manifest_id"], kin["depth"]) for kin in found["descendants"]] == [(ids[2], 1)]
    told = keeper.try_dreamer("lineage", models[0]["short_id"])
    assert told.status == 0
    assert all(name in told.out for name in ("base", "tuned", "distilled", "+2", "val_loss=0.04"))


def test_notes_are_replaced_and_the_provenance_stays(publisher, models):
    publisher.dreamer("note", "staging", "reviewed by bert")
    shown = publisher.dreamer("show", "staging")
    assert (shown["notes"], shown["trained_by"]) == ("reviewed by bert", "anna's job 7")


def test_note_changes_neither_who_published_a_model_nor_when(keeper, publisher, models, watch):
    before = publisher.dreamer("show", "next")
    after = publisher.dreamer("note", "next", "small")
    assert after == {**before, "notes": "small"}
    watch.one_line(keeper.try_dreamer("note", "next", "mine"), "published by node", "tag it")


def test_pushed_again_a_model_keeps_its_notes_and_provenance(team, publisher, models):
    source = team.root / "sources" / "tuned"
    publisher.dreamer("push", str(source), "--room", "lab")
    shown = publisher.dreamer("show", "staging")
    assert (shown["metrics"], shown["aliases"]) == ({"val_loss": 0.021}, ["staging"])


def test_promotion_moves_an_alias_and_its_history_says_who_did(keeper, publisher, models):
    ids = [model["manifest_id"] for model in models]
    promoted = publisher.dreamer("promote", "staging", "production")
    assert promoted["manifest_id"] == ids[1]
    history = keeper.dreamer("alias", "log", "production")["moves"]
    assert [(move["before"], move["after"]) for move in history] == [
        (None, ids[0]),
        (ids[0], ids[1]),
    ]
    assert history[0]["by"] == Dreamer(keeper.home).status()["node_id"]
    assert history[1]["by"] == Dreamer(publisher.home).status()["node_id"]


def test_promotion_of_what_is_no_alias_is_refused(publisher, models, watch):
    watch.one_line(publisher.try_dreamer("promote", "stagin", "production"), "stagin")


def test_alias_moves_only_from_what_was_expected(publisher, models):
    client, ids = Dreamer(publisher.home), [model["manifest_id"] for model in models]
    with pytest.raises(ConflictError, match=ids[2][:8]):
        client.set_alias("next", ids[0], expected=ids[1])
    with pytest.raises(ConflictError):
        client.set_alias("next", ids[0], expected="none")
    assert client.set_alias("next", ids[0], expected=ids[2]).manifest_id == ids[0]
    assert client.set_alias("fresh", ids[2], expected="none").aliases == ("fresh",)


def test_protected_alias_is_moved_by_admins_alone(keeper, publisher, models):
    admin, other = Dreamer(keeper.home), Dreamer(publisher.home)
    with pytest.raises(ForbiddenError, match="admin"):
        other.catalogue.protect("production", ["admin"])
    assert admin.catalogue.protect("production", ["admin"]).protected_to == ("admin",)
    with pytest.raises(ForbiddenError, match="admin"):
        other.set_alias("production", models[0]["manifest_id"])
    with pytest.raises(ForbiddenError, match="admin"):
        other.catalogue.promote("next", "production")
    before = admin.catalogue.alias("production").manifest_id
    assert admin.catalogue.promote("next", "production").manifest_id != before
    assert keeper.dreamer("alias", "protect", "production", "--lift")["protected_to"] == []
    other.set_alias("production", models[1]["manifest_id"])


@pytest.mark.parametrize("alias", ["-a", "a_", "cafe0123", "ALL", "latest", "none", "a b", ""])
def test_alias_that_breaks_the_rules_is_refused(publisher, models, alias):
    with pytest.raises((InputError, NoMatchError)):
        Dreamer(publisher.home).set_alias(alias, models[0]["manifest_id"])


def test_withdrawn_model_is_gone_from_the_room_until_it_is_pushed_again(team, publisher, models):
    source = team.model("mistake", 400)
    receipt = publisher.dreamer("push", str(source), "--room", "lab", "--alias", "oops")
    client = Dreamer(publisher.home)
    with pytest.raises(InputError, match="oops"):
        client.catalogue.withdraw("oops")
    client.remove_alias("oops")
    assert client.catalogue.withdraw(receipt["short_id"]) == receipt["manifest_id"]
    assert "mistake" not in names(publisher)
    publisher.dreamer("push", str(source), "--room", "lab")
    assert "mistake" in names(publisher)


def test_watching_tells_of_every_change_that_another_node_makes(keeper, publisher, models):
    lists: queue.Queue[list[str]] = queue.Queue()
    watching = Dreamer(keeper.home).catalogue.watch("tag:watched")

    def read() -> None:
        for found in watching:
            lists.put([model.name for model in found])
            if len(found) == 1:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert lists.get(timeout=WAIT_S) == []
    publisher.dreamer("tag", "add", "staging", "watched")
    assert lists.get(timeout=WAIT_S) == ["tuned"]
    reader.join(WAIT_S)
    watching.close()
    assert not reader.is_alive()
