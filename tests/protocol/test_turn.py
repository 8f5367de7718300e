"""TURN credentials in the form of the REST scheme."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.tracker_limits import TURN_MAX_URIS, TURN_TTL_MAX_S
from dreamer.protocol.turn import TurnCredentials, check_turn_uris, parse_credentials

URIS = (
    "turn:turn.lab",
    "turn:10.0.0.1:3478",
    "turn:turn.lab:3478?transport=udp",
    "turn:turn.lab?transport=tcp",
    "turns:turn.lab:5349",
    "turns:turn.lab:443?transport=tcp",
)


def test_credentials_come_back_as_they_were_sent_and_show_no_password():
    made = TurnCredentials("1:ab", "secret", 60, URIS)
    assert parse_credentials(made.to_json()) == made
    assert "secret" not in repr(made)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "stun:h",
        "turn:",
        "turn:h:",
        "turn:h:x",
        "turn:h:123456",
        "turn:[::1]:3478",
        "turn:h?transport=sctp",
        "turns:h?transport=udp",
        "turn:h\n",
        "turn://h",
        "turn:u@h",
    ],
)
def test_uri_that_names_no_usable_server_is_refused(uri):
    with pytest.raises(InputError):
        check_turn_uris((uri,))


def test_bounds_hold():
    check_turn_uris(URIS[:1] * TURN_MAX_URIS)
    TurnCredentials("u", "p", TURN_TTL_MAX_S, URIS)
    for uris, ttl_s, user in (
        ((), 60, "u"),
        (URIS[:1] * (TURN_MAX_URIS + 1), 60, "u"),
        (URIS, TURN_TTL_MAX_S + 1, "u"),
        (URIS, 60, "u" * 257),
    ):
        with pytest.raises(InputError):
            TurnCredentials(user, "p", ttl_s, uris)
