"""Who may have whom run a model: the room's rules, then the owner's."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.offload_rules import check_asked, room_allows

RULES = {"member": ("worker",), "admin": ("worker", "publisher")}


@pytest.mark.parametrize(
    ("rules", "asker", "server", "allowed"),
    [
        (None, ("member",), ("member",), True),
        ({}, ("admin",), ("worker",), False),
        (RULES, ("member",), ("worker",), True),
        (RULES, ("member",), ("publisher",), False),
        (RULES, ("member", "admin"), ("publisher",), True),
        (RULES, ("publisher",), ("worker",), False),
        (RULES, (), ("worker",), False),
        (RULES, ("member",), (), False),
    ],
)
def test_a_room_lets_roles_ask_roles(rules, asker, server, allowed) -> None:
    assert room_allows(rules, asker, server) is allowed


@pytest.mark.parametrize(
    ("rules", "asker", "serves", "serve_roles", "said"),
    [
        (None, ("member",), False, (), "does not run models for others"),
        (None, ("member",), True, ("admin",), "only for the roles admin, and you are member"),
        ({"admin": ("worker",)}, ("member",), True, (), "room's rules do not let member"),
    ],
)
def test_a_refusal_says_whose_rule_it_was(rules, asker, serves, serve_roles, said) -> None:
    with pytest.raises(ForbiddenError, match=said):
        check_asked(rules, asker, ("worker",), serves, serve_roles)


def test_who_may_ask_is_let_in() -> None:
    check_asked(RULES, ("member",), ("worker",), True, ())
    check_asked(RULES, ("admin",), ("publisher",), True, ("admin", "worker"))
