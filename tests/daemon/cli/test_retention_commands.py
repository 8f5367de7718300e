"""``dreamer upload``, ``room policy|retain|gc``: what people read, and what they are asked for."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.cli.entry import run
from dreamer.daemon.surfaces.retention import KeepRules


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, " ".join(captured.out.split()), captured.err

    return call


def test_upload_says_how_to_get_it(dreamer, served, tmp_path):
    status, out, err = dreamer("upload", str(tmp_path), "--ttl", "7d", "--room", "lab")
    assert status == 0
    assert "get it with: dreamer pull abababab" in out
    assert "from this node alone" in out
    assert "upload: hash" in err
    assert served.node.calls[-1][2].ttl_s == 7 * 86_400
    status, _, err = dreamer("upload", str(tmp_path), "--ttl", "soon")
    assert (status, "write it like 30m" in err) == (1, True)


def test_policy_shows_sets_and_clears(dreamer, served):
    assert "lab keeps every model" in dreamer("room", "policy", "lab")[1]
    out = dreamer("room", "policy", "lab", "--keep-last", "3", "--max-age", "90d")[1]
    assert "the last 3 of each alias" in out
    assert served.node.retention.rules == KeepRules(keep_last=3, max_age_s=90 * 86_400)
    dreamer("room", "policy", "--keep-tagged", "a", "--keep-tagged", "b", "--keep-any-tag")
    assert served.node.retention.rules == KeepRules(keep_tagged=("a", "b"), keep_any_tag=True)
    status, _, err = dreamer("room", "policy", "lab", "--clear", "--keep-last", "1")
    assert (status, "--clear stands alone" in err) == (1, True)
    dreamer("room", "policy", "lab", "--clear")
    assert served.node.retention.rules == KeepRules()


def test_retain_is_dry_unless_applied(dreamer):
    out = dreamer("room", "retain", "lab")[1]
    assert "would go: 1 models, 1.0 MiB" in out
    assert "old[red]" in out
    assert "nothing was changed" in out
    assert "alias prod" in out
    assert "withdrawn: 1 models" in dreamer("room", "retain", "lab", "--apply")[1]


def test_gc_tells_what_goes_what_stays_and_why(dreamer, served):
    out = dreamer("room", "gc", "lab")[1]
    assert "no model of the room has it 3 1.0 MiB" in out
    assert "nothing was removed; to remove it: dreamer room gc --apply" in out
    assert "1 keys, 5 B: too young to go" in out
    assert "2 keys, 6 B: held by pushes of the last hour" in out
    assert "they may belong to 0123abcd" in out
    assert "lab/files/notes.txt" in out
    status, out, err = dreamer("room", "gc", "--apply", "--grace", "0")
    assert (status, "removed: 2 keys" in out) == (0, True)
    assert "1 keys could not be removed" in err
    assert "collect now and then" in out
    assert served.node.retention.asked[-1] == ("collect", None, True, 0.0)
    _, out, _ = dreamer("room", "gc", "--json")
    assert json.loads(out)["applied"] is False
