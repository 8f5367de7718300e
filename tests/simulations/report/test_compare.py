"""Two runs beside each other."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dreamer.protocol.errors import InputError
from dreamer.simulations.report.compare import (
    compare,
    comparison_document,
    comparison_table,
    load,
)
from dreamer.simulations.report.record import to_json
from dreamer.simulations.report.result import OriginUse, RelayUse, Traffic


def verdicts(a, b) -> dict[str, str]:
    return {row.name: row.verdict for row in compare(a, b).rows}


def test_a_run_beside_itself_is_the_same_in_everything(run):
    found = compare(run(), run())
    assert {row.verdict for row in found.rows} == {"same"}
    assert not found.differs
    assert found.summary == "Both are the same run, event by event."


def test_slower_is_worse_and_faster_better(run):
    slow = run(last_s=130.0, median_s=120.0)
    there, back = verdicts(run(), slow), verdicts(slow, run())
    for name in ("last completion", "last ÷ lower bound", "median completion"):
        assert there[name] == "worse"
        assert back[name] == "better"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("origin copies", {"origin": OriginUse(21 * 10**9, 224, 3, 1.5)}),
        ("origin requests", {"origin": OriginUse(14 * 10**9, 500, 3, 1.0)}),
        ("relay bytes", {"relay": RelayUse(4 * 10**9, 5 * 10**9, [])}),
        ("wasted share", {"wasted_bytes": 10**9}),
        ("bad blocks kept", {"bad_blocks_kept": 1}),
        ("invariants broken", {"violations": ["one"]}),
        ("expected figures missed", {"missed": ["one"]}),
    ],
)
def test_more_of_what_costs_is_worse(run, name, change):
    assert verdicts(run(), run(**change))[name] == "worse"
    assert verdicts(run(**change), run())[name] == "better"


def test_fewer_finished_pulls_are_worse(run, machine):
    stuck = machine(3, pulled_s={}, unfinished={"llm": ""})
    each = [machine(0), machine(1), machine(2), stuck]
    (row,) = [row for row in compare(run(), run(each=each)).rows if row.name == "pulls finished"]
    assert (row.verdict, row.change) == ("worse", "-25.0 pp")


def test_runs_of_different_sizes_say_so_and_are_judged_by_ratios_alone(run):
    larger = run(40, scenario="steady-month", last_s=130.0, wasted_bytes=3 * 10**9)
    found = compare(run(), larger)
    assert any(words.startswith("scenario: flash-crowd in A") for words in found.differs)
    assert "machines: 4 in A, 40 in B" in found.differs
    marked = {row.name: row.verdict for row in found.rows}
    assert marked["last completion"] == "changed"
    assert marked["last ÷ lower bound"] == "worse"
    assert marked["wasted bytes"] == "changed"
    assert marked["wasted share"] == "worse"


def test_a_lane_that_only_one_used_moved_no_bytes_in_the_other(run):
    only_torrent = run(traffic=Traffic(40.0, {"torrent": [56 * 10**9]}))
    rows = {row.name: row for row in compare(run(), only_torrent).rows}
    assert (rows["torrent"].a, rows["torrent"].b) == (0.0, 56e9)
    assert rows["torrent"].change == "+56.0 GB"
    sections = [row.section for row in compare(run(), only_torrent).rows]
    assert sections == sorted(sections, key=sections.index)


def test_noise_of_the_clock_on_the_wall_is_no_change(run):
    def took(wall_s):
        return run(engine=replace(run().engine, wall_s=wall_s))

    assert verdicts(took(10.0), took(10.8))["wall time"] == "same"
    assert verdicts(took(10.0), took(20.0))["wall time"] == "worse"


def test_a_run_with_nothing_to_compare_changes_without_a_verdict(run, bare_run):
    marked = verdicts(run(), bare_run)
    assert marked["last completion"] == "changed"
    assert marked["pulls finished"] == "worse"


def test_the_table_marks_what_is_worse(run):
    console = Console(file=io.StringIO(), width=120)
    found = compare(run(), run(seed=8, last_s=130.0))
    console.print(comparison_table(found))
    text = console.file.getvalue()
    (line,) = [line for line in text.splitlines() if line.startswith("last completion")]
    assert line.split()[-2:] == ["▼", "worse"]
    assert "differs: seed: 7 in A, 8 in B" in text
    rows = comparison_document(found)["figures"]
    assert {"name": "last completion", "verdict": "worse"}.items() <= rows[5].items()


def test_a_run_is_loaded_from_its_folder_or_its_file(run, tmp_path):
    (tmp_path / "result.json").write_bytes(to_json(run()))
    assert load(tmp_path) == load(tmp_path / "result.json") == run()


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"can't read .*result\.json"):
        load(tmp_path)
