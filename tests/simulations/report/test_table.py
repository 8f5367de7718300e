"""The figures of a run in a terminal."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from dreamer.simulations.report.measures import measures
from dreamer.simulations.report.result import Engine, Traffic
from dreamer.simulations.report.table import plain, table


def shown(result) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table(result))
    return console.file.getvalue()


@pytest.mark.parametrize("laid_out", [plain, shown])
def test_a_table_says_the_figures_of_the_run(run, laid_out):
    text = laid_out(run())
    for words in (
        "4 of 4",
        "1 min 55 s",
        "1.03×",
        "29.0 GB",
        "of a budget of 5.0 GB",
        "3 refused",
        "8,230 events/s",
        "5ca1ab1e",
        "dreamer-sim run flash-crowd --nodes 4 --seed 7",
        "all held, at each of 12,345 checks",
    ):
        assert words in text


def test_bytes_by_lane_come_cheapest_first_and_unused_lanes_not_at_all(run):
    traffic = Traffic(1.0, {"origin": [5], "torrent": [0], "carrier pigeon": [1], "direct": [2]})
    rows = [row for row in measures(run(traffic=traffic)) if row.section == "Bytes by lane"]
    assert [(row.name, row.value) for row in rows] == [
        ("direct", 2),
        ("origin", 5),
        ("carrier pigeon", 1),
    ]


@pytest.mark.parametrize("laid_out", [plain, shown])
def test_a_run_in_which_nobody_finished_has_no_times(bare_run, laid_out):
    values = {row.name: row.value for row in measures(bare_run)}
    assert values["pulls finished"] == 0
    assert values["last completion"] is None
    assert values["last ÷ lower bound"] is None
    assert "0 of 1" in laid_out(bare_run)


def test_what_nobody_checked_is_not_said_to_hold(bare_run):
    text = plain(bare_run)
    assert "none were checked" in text
    assert "no figures were expected" in text
    assert "held" not in text


@pytest.mark.parametrize("laid_out", [plain, shown])
def test_what_did_not_hold_is_said_in_its_words(run, laid_out):
    text = laid_out(run(violations=["laptop-3 kept a bad block"], missed=["origin: 1.3 copies"]))
    assert "broken: laptop-3 kept a bad block" in text
    assert "missed: origin: 1.3 copies" in text
    assert "all held" not in text


@pytest.mark.parametrize("laid_out", [plain, shown])
def test_names_can_neither_steer_the_terminal_nor_the_table(run, laid_out):
    text = laid_out(run(scenario="[red]\x1b[2J", violations=["[/] \x1b]0;title\x07"]))
    assert "\x1b" not in text
    assert "[red]" in text
    assert "[/]" in text


def test_machines_that_left_are_told_apart_from_those_that_failed(run, machine):
    gone = machine(2, stayed=False, pulled_s={}, unfinished={"llm": "it left"})
    liar = machine(3, honest=False, pulled_s={}, unfinished={"llm": ""})
    text = plain(run(each=[machine(0), machine(1), gone, liar]))
    assert "1 did not stay to the end, 1 misbehaved" in text
    # The one that misbehaves is left out.
    assert "2 of 3; 1 were of machines that left" in text


def test_a_rule_that_breaks_everywhere_does_not_flood_the_terminal(run):
    text = plain(run(violations=[f"number {at}" for at in range(30)]))
    assert "broken: number 9\n" in text
    assert "number 10" not in text
    assert "broken: and 20 more" in text


def test_a_last_completion_of_few_is_not_set_beside_the_bound_of_all(run, machine):
    each = [machine(0, pulled_s={"small": 9.0}), machine(1, stayed=False)]
    values = {row.name: row for row in measures(run(each=each, last_s=9.0, median_s=9.0))}
    assert values["last completion"].note == "of the 1 pulls of machines that stayed"
    assert values["last ÷ lower bound"].value is None
    assert values["slowest pull of all"].value == 113.0


def test_a_run_that_took_no_time_has_no_rate_of_events(run):
    assert "events/s" not in plain(run(engine=Engine("ab" * 16, 10, 0.0, 1.0, 0)))


def test_tables_and_json_need_no_matplotlib():
    code = (
        "import sys\n"
        "from dreamer.simulations.report import compare, files, table\n"
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
