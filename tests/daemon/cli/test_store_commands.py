"""``dreamer store …``: what people read, what scripts get, and the exit status."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.cli.entry import run


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), "store", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_ls_tells_what_is_here_and_why_it_stays(dreamer):
    status, out, _ = dreamer("ls")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1] == ("abababab tiny 3.0 MiB whole 2.0 MiB 3 h ago by alias prod in lab loaded")
    assert "half[red]" in lines[2]
    assert "4 B in whole files" in lines[2]
    assert "expired" in lines[2]


def test_du_tells_where_the_bytes_are(dreamer):
    _, out, _ = dreamer("du")
    assert "shared by several models: 1.0 MiB" in out
    assert "/models: 4.0 MiB used of a quota of 8.0 MiB" in out
    assert "free on the disk: 1.0 GiB, 2.0 MiB of it stay free" in out
    assert "quarantine" not in out


def test_verify_shows_progress_and_tells_scripts_by_its_status(dreamer, served):
    status, out, err = dreamer("verify")
    assert status == 0
    assert "good" in out
    assert "verify: verify 1 B of 2 B" in err
    served.node.caches.damaged = True
    status, out, _ = dreamer("verify", "prod", "--room", "lab")
    assert status == 1
    assert "damaged or missing: w.bin" in out
    assert "pull again: abababab" in out
    assert served.node.caches.asked == [("verify", None, None), ("verify", "prod", "lab")]


def test_verify_of_what_is_not_here_fails_with_its_message(dreamer):
    status, _, err = dreamer("verify", "missing")
    assert status == 1
    assert "no model is called 'missing'" in err


def test_gc_only_lists_until_it_is_told_to_remove(dreamer, served):
    _, out, _ = dreamer("gc")
    assert "1.0 MiB can go; remove it with: dreamer store gc --yes" in out
    _, out, _ = dreamer("gc", "--yes", "--older-than", "0.5")
    assert "1.0 MiB removed" in out
    assert served.node.caches.asked == [
        ("collect", False, 7 * 86_400.0),
        ("collect", True, 43_200.0),
    ]


def test_pin_and_unpin_by_hand_and_by_alias(dreamer, served):
    assert dreamer("pin", "prod")[1] == "abababab is pinned by hand\n"
    _, out, _ = dreamer("pin", "--alias", "prod", "--room", "lab")
    assert out == "abababab is pinned by alias prod in lab\n"
    _, out, _ = dreamer("unpin", "--alias", "prod")
    assert out == "abababab is not pinned by alias prod in lab any more\n"
    assert served.node.caches.asked == [
        ("pin", "prod", None, False),
        ("pin", "prod", "lab", True),
        ("unpin", "prod", None, True),
    ]
    status, _, err = dreamer("unpin", "other")
    assert (status, "nothing pins 'other'" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("ls",), "models"),
        (("du",), "used_bytes"),
        (("verify",), "models"),
        (("gc",), "found"),
        (("pin", "prod"), "reason"),
        (("unpin", "prod"), "unpinned"),
    ],
)
def test_json_is_one_document(dreamer, words, key):
    status, out, _ = dreamer(*words, "--json")
    assert status == 0
    assert key in json.loads(out)
