"""Every ``TRACKER_*`` limit has a test that crosses it: here it says which.

Whoever adds a limit adds a line. A limit that no test can cross says why.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from dreamer.protocol import tracker_limits

PREFIX = "TRACKER_"
TESTS = Path(__file__).resolve().parent.parent

# By file below tests/ and by test: the limits, without "TRACKER_", that it goes beyond.
CROSSED_IN = {
    "tracker/test_tracker_limits.py": {
        "test_connections_of_one_address_are_bounded": "SOCKETS_PER_ADDRESS",
        "test_request_whose_head_does_not_end_is_refused": "REQUEST_HEAD_MAX_BYTES",
        "test_request_that_does_not_come_is_not_waited_for": "REQUEST_HEAD_TIMEOUT_S",
        "test_silent_client_is_pinged_and_dropped_if_it_does_not_answer": (
            "HEARTBEAT_S DEAD_AFTER_S"
        ),
        "test_sweep_comes_round_by_itself": "SWEEP_INTERVAL_S",
        "test_shutdown_waits_for_nobody_who_does_not_answer": "STOP_TIMEOUT_S",
        "test_message_at_the_bound_is_taken_and_one_byte_more_is_not": "MESSAGE_MAX_BYTES",
        "test_flood_in_one_piece_gives_others_their_turn": "PUBLIC_MESSAGES_PER_TURN",
        "test_client_that_never_reads_its_own_replies_is_cut_off": "OUTBOX_MAX_BYTES",
        "test_peer_that_does_not_announce_is_dropped_though_its_socket_stands": "PEER_AGE_S",
        "test_offers_over_ten_are_not_passed_on": "MAX_OFFERS",
        "test_late_answer_is_not_passed_on": "OFFER_AGE_S",
        "test_downloads_of_few_idle_swarms_are_remembered": "MAX_IDLE_SWARMS",
    },
    "tracker/test_door.py": {
        "test_kernel_holds_little_for_a_public_socket": "KERNEL_BUFFER_BYTES",
    },
    "tracker/test_announce_socket.py": {
        "test_flooding_client_is_slowed_down_and_the_others_are_served": "MESSAGES_PER_S",
        "test_junk_is_answered_then_cut_off": "BAD_MESSAGES_PER_SOCKET",
        "test_scrape_of_everything_looks_at_no_more_than_it_tells": "SCRAPE_MAX_SWARMS",
    },
    "tracker/test_http_announce.py": {
        "test_two_clients_on_the_websockets_port_learn_of_each_other": "HTTP_MIN_INTERVAL_S",
        "test_regular_announces_keep_a_client_whatever_its_clock": "HTTP_INTERVAL_S",
        "test_client_that_does_not_announce_for_long_is_forgotten": "HTTP_PEER_AGE_S",
        "test_so_many_peers_are_told_and_no_more": "HTTP_NUMWANT HTTP_MAX_NUMWANT",
        "test_long_key_is_remembered_in_part": "HTTP_KEY_MAX_BYTES",
        "test_address_that_floods_is_told_to_wait_and_others_are_served": (
            "HTTP_REQUESTS_PER_S HTTP_REQUESTS_BURST"
        ),
        "test_one_address_has_so_many_peers_over_all_swarms": "HTTP_PEERS_PER_ADDRESS",
        "test_tracker_that_is_full_says_so": "HTTP_MAX_PEERS",
    },
    "tracker/test_room_limits.py": {
        "test_member_that_connects_again_has_no_fresh_burst": "MESSAGES_BURST",
        "test_newcomer_takes_the_place_of_one_that_only_stands_there": "KNOCKS_MAX",
        "test_sockets_that_do_not_log_in_are_few_for_each_address": "KNOCKS_PER_ADDRESS",
        "test_one_address_logs_in_so_often_and_then_slowly": "LOGINS_PER_S LOGINS_BURST",
        "test_node_that_logs_in_again_and_again_is_told_to_wait": "ENTRIES_PER_S ENTRIES_BURST",
        "test_member_in_too_many_swarms_is_told_and_stays": "MAX_SWARMS_PER_MEMBER",
        "test_seek_names_so_many_and_no_more": "SEEK_MAX_NODES",
        "test_member_asks_for_the_registry_so_often_and_then_slowly": (
            "REGISTRY_REQUESTS_PER_S REGISTRY_REQUESTS_BURST"
        ),
    },
    "tracker/test_member_reports.py": {
        "test_reports_are_bounded_in_size_and_number": (
            "REPORTS_PER_S REPORTS_BURST REPORTS_BUSY_PAUSE_S"
        ),
        "test_reports_of_a_room_are_bounded_whoever_sends_them": (
            "ROOM_REPORTS_PER_S ROOM_REPORTS_BURST"
        ),
        "test_few_wait_for_their_turn_in_a_room_and_the_rest_come_later": "ROOM_REPORTS_WAITING",
        "test_no_more_registries_are_worked_on_at_once_than_the_tracker_bears": "REPORTS_AT_ONCE",
        "test_report_that_others_are_always_ahead_of_is_made_later": "REPORT_ATTEMPTS",
    },
    "tracker/test_room_fairness.py": {
        "test_member_that_does_not_read_the_trackers_own_news_is_cut_off": "ROOM_OUTBOX_MAX_BYTES",
        "test_members_messages_in_one_piece_give_others_their_turn": "MESSAGES_PER_TURN",
        "test_bursting_sender_does_not_have_its_target_cut_off": "FORWARDED_MAX_BYTES",
        "test_presence_is_told_at_once_and_then_its_last_state": "PRESENCE_INTERVAL_S",
    },
    "tracker/test_restart.py": {
        "test_swarms_refill_with_the_first_announce_of_each_client": "ANNOUNCE_INTERVAL_S",
    },
    "tracker/test_swarms.py": {
        "test_pending_offers_of_a_peer_are_bounded": "PENDING_OFFERS_PER_PEER",
        "test_swarms_of_one_socket_are_bounded": "MAX_SWARMS_PER_SOCKET",
    },
    "tracker/test_webtorrent_wire.py": {
        "test_what_can_not_be_used_gets_a_failure_with_an_action": "OFFER_ID_MAX_CHARS",
    },
    "tracker/test_room_socket.py": {
        "test_who_does_not_log_in_is_cut_off": "AUTH_TIMEOUT_S",
        "test_full_room_refuses_for_now": "ROOM_MAX_MEMBERS",
        "test_malformed_message_is_answered_and_the_session_goes_on": (
            "CAPABILITIES_MAX_BYTES HASHES_PER_MESSAGE"
        ),
    },
    "tracker/test_paces.py": {
        "test_what_is_remembered_has_an_end": "PACES_KEPT",
    },
    "tracker/test_tracker_bounds.py": {
        "test_rooms_are_bounded": "MAX_ROOMS",
        "test_one_address_brings_few_rooms_an_hour_but_enters_those_known": "NEW_ROOMS_PER_ADDRESS",
        "test_uses_of_invitations_are_bounded_by_room": "ROOM_MAX_ADMISSIONS",
        "test_full_tracker_refuses_more_registries": "REGISTRIES_MAX_BYTES",
    },
    "tracker/test_new_rooms.py": {
        "test_address_that_brought_too_many_rooms_waits_an_hour": "NEW_ROOMS_WINDOW_S",
    },
    "tracker/test_room_revocations.py": {
        "test_admins_revocations_end_before_those_of_the_rooms_own_key": (
            "ROOM_MAX_REVOCATIONS ROOM_KEY_REVOCATIONS"
        ),
        "test_few_rooms_revocations_are_kept_in_memory": "CACHED_REVOCATIONS_ROOMS",
    },
    "tracker/test_registry_http.py": {
        "test_session_outlives_its_socket_by_a_minute": "SESSION_GRACE_S",
        "test_too_large_a_registry_is_refused": "REGISTRY_MAX_BYTES",
    },
    "daemon/rendezvous/test_misbehaving_tracker.py": {
        "test_silent_tracker_is_given_up": "CONNECT_TIMEOUT_S",
        "test_seek_that_nobody_answers_fails_in_time": "SEEK_TIMEOUT_S",
        "test_pauses_grow_to_their_ceiling": "BACKOFF_MAX_S",
        "test_refusal_is_not_hammered": "REFUSED_RETRY_S",
        "test_message_beyond_all_bounds_ends_the_connection": "ROOM_MESSAGE_MAX_BYTES",
    },
    "daemon/rendezvous/test_tracker_registry.py": {
        "test_tracker_that_does_not_answer_in_time_is_given_up": "REQUEST_TIMEOUT_S",
        "test_etag_that_no_header_can_hold_is_refused": "ETAG_MAX_CHARS",
    },
    "daemon/rendezvous/test_tracker_services.py": {
        "test_credentials_of_another_form_are_refused": "SERVICE_ANSWER_MAX_BYTES",
    },
    "daemon/rendezvous/test_trackers.py": {
        "test_tracker_that_hangs_delays_the_answer_of_another_only_a_little": "SEEK_OTHERS_S",
    },
    "daemon/test_embedded_tracker.py": {
        "test_tracker_that_says_nothing_in_time_is_a_clear_error": "START_TIMEOUT_S",
    },
}
NOT_CROSSED = {
    "BACKLOG": "a queue of the kernel's, which rounds it and says nothing",
    "TICK_S": "how often something is looked at, which tests do themselves",
    "REST_S": "how long a flood is slept through: shorter costs wake-ups, and is seen in the bench",
    "BACKOFF_BASE_S": "the first of pauses whose growth and end are tested",
    "RETURN_S": "the same",
}


def declared() -> set[str]:
    return {name.removeprefix(PREFIX) for name in vars(tracker_limits) if name.startswith(PREFIX)}


def crossed() -> list[tuple[str, str, str]]:
    """Return (limit, file, test) of every line."""
    return [
        (limit, file, test)
        for file, tests in CROSSED_IN.items()
        for test, names in tests.items()
        for limit in names.split()
    ]


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_every_limit_is_listed_once():
    listed = [limit for limit, _, _ in crossed()] + list(NOT_CROSSED)
    assert sorted(declared() - set(listed)) == [], "say here which test crosses these"
    assert sorted(set(listed) - declared()) == [], "these are no limits any more"
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(("limit", "file", "test"), crossed())
def test_the_test_that_crosses_a_limit_is_there(limit, file, test):
    assert test.startswith("test_")
    assert test in functions_in(file), f"who crosses TRACKER_{limit} now?"
