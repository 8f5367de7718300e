"""Pictures of a run: what is in them, and that they are the same every time."""

import sys
from xml.etree import ElementTree as ET

import matplotlib
import pytest

from dreamer.protocol.errors import InputError
from dreamer.simulations.report.canvas import require_pictures
from dreamer.simulations.report.pictures import CostBar, cost_picture, overlaid_completion, pictures
from dreamer.simulations.report.result import OriginUse, RelayUse, Traffic

SVG = "{http://www.w3.org/2000/svg}"


def words(text: str) -> list[str]:
    """All that is written in an SVG file; it must be well-formed for that."""
    return ["".join(element.itertext()) for element in ET.fromstring(text).iter(f"{SVG}text")]


def drawn(result, name: str) -> list[str]:
    (picture,) = [one for one in pictures(result) if one.name == name]
    return words(picture.svg())


def test_completion_names_the_lower_bound_and_how_many_finished(run):
    said = drawn(run(), "completion")
    assert "all pulls: 4 of 4" in said
    assert "lower bound: 1 min 52 s" in said
    assert "time since the pull began (s)" in said


def test_completion_has_a_curve_for_each_model(run, machine):
    each = [machine(at, pulled_s={"$llm$": 100.0 + at, "小模型": 3.0}) for at in range(3)]
    each[0] = machine(0, pulled_s={"小模型": 3.0}, unfinished={"$llm$": "it left"})
    said = drawn(run(each=each), "completion")
    assert "$llm$: 2 of 3" in said
    assert "小模型: 3 of 3" in said


def test_machines_that_misbehave_are_not_in_the_curve(run, machine):
    each = [machine(0), machine(1, honest=False, pulled_s={"another": 900.0})]
    assert "all pulls: 1 of 1" in drawn(run(each=each), "completion")


def test_lanes_are_stacked_with_their_totals_and_unused_ones_left_out(run):
    lanes = {**run().traffic.by_lane, "torrent": [0, 0, 0, 0]}
    said = drawn(run(traffic=Traffic(40.0, lanes)), "lanes")
    assert [one for one in said if ":" in one] == [
        "direct: 29.0 GB",
        "webrtc: 10.0 GB",
        "relay: 3.0 GB",
        "origin: 14.0 GB",
    ]
    assert "arriving (Gbit/s)" in said


def test_relays_are_drawn_beside_their_budget(run):
    assert {"through relays: 3.0 GB", "budget: 5.0 GB"} <= set(drawn(run(), "relay"))


def test_copies_from_the_origin_are_said(run):
    said = drawn(run(origin=OriginUse(21 * 10**9, 300, 0, 1.5)), "origin")
    assert {"1.500 copies in the end", "one copy"} <= set(said)


def test_what_was_not_used_has_no_picture(run):
    result = run(origin=OriginUse(), relay=RelayUse())
    assert [one.name for one in pictures(result)] == ["completion", "lanes", "load"]


def test_a_run_in_which_nothing_moved_can_be_drawn(bare_run):
    assert "all pulls: 0 of 1" in drawn(bare_run, "completion")
    assert "nothing arrived" in drawn(bare_run, "lanes")
    assert "sent: 0 B on average, 0 B at most" in drawn(bare_run, "load")


def test_a_run_without_machines_can_be_drawn(bare_run, run):
    assert "machines, those with most first (0)" in drawn(run(0, traffic=Traffic(1.0, {})), "load")


def test_thousands_of_machines_make_no_larger_picture_than_hundreds(run):
    (few,) = [one.svg() for one in pictures(run(500)) if one.name == "load"]
    (many,) = [one.svg() for one in pictures(run(3000)) if one.name == "load"]
    assert len(many) < 1.2 * len(few)


def test_costs_stand_beside_what_was_expected_of_them():
    bars = [CostBar("from S3", 1701.4, 1696.0), CostBar("peers", 12.5)]
    said = words(cost_picture(bars).svg())
    assert {"from S3", "peers", "$1,701", "$1,696", "$12.50", "expected"} <= set(said)


def test_two_runs_have_their_own_bounds(run):
    said = words(overlaid_completion(run(), run(bound_s=60.0)).svg())
    assert {"A: 4 of 4", "B: 4 of 4"} <= set(said)
    assert {"lower bound of A: 1 min 52 s", "lower bound of B: 60.0 s"} <= set(said)


def test_the_same_run_gives_the_same_bytes_whatever_the_machine_likes(run):
    def both():
        (picture,) = [one for one in pictures(run()) if one.name == "relay"]
        return picture.svg(), picture.png()

    once = both()
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "xtick.major.size": 20}):
        assert both() == once
    assert once[1].startswith(b"\x89PNG\r\n")


def test_nothing_of_a_picture_clashes_with_another_on_the_same_page(written):
    names = [
        element.get("id")
        for path in sorted((written / "pictures").glob("*.svg"))
        for element in ET.parse(path).iter()
        if element.get("id")
    ]
    assert names
    assert len(set(names)) == len(names)


def test_every_name_that_a_picture_refers_to_is_in_it(written):
    for path in sorted((written / "pictures").glob("*.svg")):
        root = ET.parse(path).getroot()
        names = {f"#{element.get('id')}" for element in root.iter()}
        used = {element.get("href") for element in root.iter(f"{SVG}use")}
        clips = {element.get("clip-path") for element in root.iter() if element.get("clip-path")}
        assert used | {clip.removeprefix("url(").removesuffix(")") for clip in clips} <= names


def test_without_matplotlib_it_is_said_how_to_install_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'dreamer\[sim\]'"):
        require_pictures()
    with pytest.raises(InputError, match=r"pip install 'dreamer\[sim\]'"):
        pictures(run())[0].svg()
