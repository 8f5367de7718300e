"""The rules that admins set for a room."""

from __future__ import annotations

import pytest

from dreamer.protocol.canonical import dumps, loads
from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.registry.changes import Publish, SetPolicy
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.policy import Retention, RoomPolicy
from dreamer.protocol.registry.reports import Fault

POLICY = RoomPolicy(
    Retention(keep_last=3, keep_tagged=("validated", "release"), max_age_s=86400),
    {"member": ("worker",), "admin": ("worker", "member")},
)


@pytest.fixture
def admin(room):
    return room.author(7, "admin")


def test_room_without_a_policy_keeps_everything(room):
    policy = room.empty().registry.policy
    assert (policy, policy.retention.keeps_all, policy.offload) == (RoomPolicy(), True, None)


def test_policy_is_in_the_view_and_survives_the_document(room, admin):
    after = room.change(room.empty(), SetPolicy(POLICY), author=admin)
    again = room.verify(parse(after.document.encode(), room.id))
    assert again == after
    assert (again.registry.policy, again.reports) == (POLICY, ())
    assert not POLICY.retention.keeps_all
    assert room.change(after, SetPolicy(POLICY), author=admin).document is after.document


def test_newest_policy_counts(room, admin):
    after = room.change(room.empty(), SetPolicy(POLICY), author=admin)
    after = room.change(after, SetPolicy(RoomPolicy()), author=room.author(8, "admin"))
    assert after.registry.policy == RoomPolicy()


@pytest.mark.parametrize("role", ["member", "publisher", "worker"])
def test_only_admins_set_a_policy(room, admin, role):
    state = room.change(room.empty(), SetPolicy(RoomPolicy(Retention(keep_last=9))), author=admin)
    author = room.author(4, role)
    with pytest.raises(ForbiddenError, match="role admin"):
        room.change(state, SetPolicy(POLICY), author=author)
    after = room.put(state, POLICY, author)
    assert after.registry.policy == RoomPolicy()
    assert Fault.NO_RIGHT in [report.fault for report in after.reports]


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep_last": 0},
        {"keep_last": -1},
        {"keep_last": True},
        {"keep_tagged": ("No Tag",)},
        {"keep_tagged": tuple(f"t{number}" for number in range(65))},
        {"max_age_s": -1},
        {"max_age_s": 1.5},
    ],
)
def test_retention_out_of_bounds_is_refused(wrong):
    with pytest.raises(InputError):
        Retention(**wrong)


@pytest.mark.parametrize("offload", [{"Admin": ()}, {"member": ("no role",)}, {"": ("member",)}])
def test_offload_between_what_are_no_roles_is_refused(offload):
    with pytest.raises(InputError):
        RoomPolicy(offload=offload)


def test_rule_of_a_later_version_keeps_everything_and_is_kept(room, admin):
    later = RoomPolicy(Retention(keep_last=1, extra={"keep_first": 3}))
    stored = room.change(room.empty(), SetPolicy(later), author=admin)
    read = room.verify(parse(stored.document.encode(), room.id))
    assert (read.registry.policy.retention.keeps_all, read.reports) == (True, ())
    after = room.change(read, Publish(room.entry(1)))
    assert loads(after.document.encode())["policy"]["retention"]["keep_first"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"retention": {}},
        {"retention": {"keep_last": None, "keep_tagged": [], "keep_any_tag": 1, "max_age_s": 1}},
        {"offload": {"member": "all"}},
        {"kind": "model"},
    ],
)
def test_policy_that_cannot_be_read_keeps_everything_and_is_reported(room, admin, change):
    state = room.change(room.empty(), SetPolicy(POLICY), author=admin)
    value = loads(state.document.encode())
    value["policy"].update(change)
    after = room.verify(parse(dumps(value), room.id))
    assert after.registry.policy.retention.keeps_all
    assert Fault.MALFORMED in [report.fault for report in after.reports]
