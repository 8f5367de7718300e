"""``dreamer room offload``: shown, set, taken away."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.cli.entry import run

ADMIN_TOO = ("--allow", "member=worker", "--allow", "admin=worker")


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_rules_are_shown_as_they_are(dreamer, served):
    status, out, _ = dreamer("room", "offload", "lab")
    assert (status, out) == (0, "lab: rules [bold]None\n")


@pytest.mark.parametrize(
    ("options", "set_to"),
    [
        (
            ("--allow", "member=worker", "--allow", "admin=worker"),
            ["member=worker", "admin=worker"],
        ),
        (("--nobody",), []),
        (("--clear",), None),
    ],
)
def test_rules_are_set(dreamer, served, options, set_to):
    status, out, _ = dreamer("room", "offload", "lab", *options, "--json")
    assert (status, json.loads(out)["allow"]) == (0, set_to)
    assert served.node.offload_rules.asked == [("set_rules", "lab", set_to)]


def test_rules_that_exclude_each_other_are_refused(dreamer, served):
    status, _, err = dreamer("room", "offload", "--nobody", "--clear")
    assert (status, served.node.offload_rules.asked) == (1, [])
    assert "exclude each other" in err


def test_who_is_no_admin_is_told(dreamer):
    status, _, err = dreamer("room", "offload", "theirs", "--nobody")
    assert status == 1
    assert err.splitlines()[-1] == "dreamer: only admins set the rules of a room: ask one"
