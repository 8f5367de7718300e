"""``dreamer connect`` on a terminal, in a pipe, and with --json."""

from __future__ import annotations

import io
import json
import sys

import pytest

from dreamer.daemon.cli import qr
from dreamer.daemon.cli.entry import run

OFFER, ANSWER = "DREAMER-OFFER.AE", "DREAMER-ANSWER.AE"


class Terminal(io.StringIO):
    """A stdin at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def dreamer(served, capsys, monkeypatch):
    """Runs one command line; ``typed`` is what comes from a pipe, or from a terminal."""

    def call(*words, typed="", terminal=False):
        monkeypatch.setattr(sys, "stdin", (Terminal if terminal else io.StringIO)(typed))
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_an_offer_in_a_pipe_is_the_text_alone(dreamer, served):
    status, out, err = dreamer("connect", "--offer", "--room", "lab")
    assert (status, out) == (0, f"{OFFER}\n")
    assert "On the other machine, which must be in room lab, run within 10 minutes: " in err
    assert "Then, on this one: dreamer connect --answer ITS-ANSWER" in err
    assert served.node.calls == [("offer_link", "lab")]


def test_an_offer_on_a_terminal_waits_for_the_answer(dreamer, served):
    status, out, err = dreamer("connect", "--offer", typed=f"\n{ANSWER}\n", terminal=True)
    assert status == 0
    assert out == f"{OFFER}\nlinked to other[red] (efefefef) in room lab over webrtc\n"
    assert "paste its answer here" in err
    assert served.node.calls[:2] == [("offer_link", None), ("take_meeting_text", f"{ANSWER}\n")]


def test_a_terminal_that_is_left_without_an_answer_says_how_to_go_on(dreamer):
    status, out, err = dreamer("connect", "--offer", typed="", terminal=True)
    assert (status, out) == (1, f"{OFFER}\n")
    assert err.splitlines()[-1] == (
        "dreamer: no answer was pasted; when you have it: dreamer connect --answer TEXT"
    )


def test_an_offer_is_answered_with_the_text_alone(dreamer):
    status, out, err = dreamer("connect", "--answer", OFFER)
    assert (status, out) == (0, f"{ANSWER}\n")
    assert "Take it to the machine that offered (efefefef), within 10 minutes" in err


def test_an_answer_links_and_says_to_whom(dreamer):
    status, out, _ = dreamer("connect", "--answer", ANSWER)
    assert (status, out) == (0, "linked to other[red] (efefefef) in room lab over webrtc\n")


def test_a_long_text_comes_from_stdin(dreamer, served):
    status, out, _ = dreamer("connect", "--answer", "-", typed=f"{OFFER}\n")
    assert (status, out) == (0, f"{ANSWER}\n")
    status, _, err = dreamer("connect", "--answer", "-")
    assert status == 1
    assert "stdin holds no text" in err
    assert len(served.node.calls) == 1


def test_a_megabyte_on_stdin_is_not_sent_whole(dreamer, served):
    assert dreamer("connect", "--answer", "-", typed="A" * 2**20)[0] == 1
    assert len(served.node.calls[0][1]) < 4096


def test_json_is_one_document_and_never_a_code(dreamer):
    status, out, _ = dreamer("connect", "--offer", "--qr", "--json", terminal=True)
    assert (status, json.loads(out)["text"]) == (0, OFFER)
    assert json.loads(out)["expires_s"] == 600.0
    _, out, _ = dreamer("connect", "--answer", OFFER, "--json")
    assert json.loads(out)["kind"] == "answer"
    _, out, _ = dreamer("connect", "--answer", ANSWER, "--json")
    assert json.loads(out)["linked"]["node_id"] == "ef" * 32


@pytest.mark.parametrize(
    ("text", "said"),
    [("DREAMER-ANSWER.AWAY", "could not reach each other"), ("DREAMER-OFFER.A", "cut short")],
)
def test_what_fails_is_one_line_and_status_1(dreamer, text, said):
    status, out, err = dreamer("connect", "--answer", text)
    assert (status, out) == (1, "")
    assert said in err
    assert json.loads(dreamer("connect", "--answer", text, "--json")[1])["error"]


@pytest.mark.parametrize(
    "words",
    [[], ["--offer", "--answer", OFFER], ["--answer", OFFER, "--room", "lab"], ["--answer"]],
)
def test_misuse_is_status_2(dreamer, served, words):
    status, out, err = dreamer("connect", *words)
    assert (status, out) == (2, "")
    assert err.startswith("dreamer: ")
    assert "--help" in err
    assert served.node.calls == []


def test_a_code_can_be_asked_for_in_a_pipe(dreamer):
    _, out, _ = dreamer("connect", "--offer", "--qr")
    assert out.splitlines()[1:] == qr.lines(OFFER, coloured=False)


def test_the_code_of_a_usual_text_fits_a_small_terminal():
    lines = qr.lines("DREAMER-ANSWER." + "A" * 208, coloured=False)
    assert len(lines) == 24
    assert {len(line) for line in lines} == {47}


def test_the_code_has_its_three_corners_and_a_light_border():
    lines = qr.lines(OFFER, coloured=False)
    full, upper, lower = "\N{FULL BLOCK}", "\N{UPPER HALF BLOCK}", "\N{LOWER HALF BLOCK}"
    # From the outside: a light row over the dark one of the corner, then its dark walls.
    assert lines[0].startswith(full + upper * 7 + full)
    assert lines[0].endswith(full + upper * 7 + full)
    assert lines[1].startswith(f"{full} {full}{upper}{upper}{upper}{full} {full}")
    assert all(line[0] in (full, upper) and line[-1] in (full, upper) for line in lines)
    assert set("".join(lines)) <= {full, upper, lower, " "}


def test_colours_are_said_only_to_a_terminal():
    assert all(line.startswith("\x1b[97;40m") for line in qr.lines(OFFER, coloured=True))
    assert not any("\x1b" in line for line in qr.lines(OFFER, coloured=False))


def test_a_room_says_where_its_registry_is_kept(dreamer, served):
    words = ["--no-tracker", "--origin", "s3://b/p", "--registry", "origin"]
    status, out, _ = dreamer("room", "create", "cave", *words)
    assert (status, "its registry is kept in s3://b/p" in out) == (0, True)
    assert served.node.calls == [
        ("create_room", "cave", [], "s3://b/p", None, "no tracker", "registry")
    ]
    status, _, err = dreamer("room", "create", "cave", "--registry", "git")
    assert (status, "tracker" in err, "origin" in err) == (2, True, True)


def test_a_room_without_a_tracker_says_how_its_machines_link(dreamer, served):
    status, out, _ = dreamer("room", "create", "cave", "--no-tracker")
    assert status == 0
    assert out == (
        "created room cave (cdcdcdcd)\n"
        "it has no tracker: link its machines with 'dreamer connect --offer'\n"
    )
    assert served.node.calls == [("create_room", "cave", [], None, None, "no tracker")]
