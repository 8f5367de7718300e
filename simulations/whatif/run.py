"""Runs a room as it is and with each change, and sets them beside each other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.report import compare, files
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.scenario.model import Scenario
from dreamer.simulations.scenario.writing import dump
from dreamer.simulations.whatif.machines import Notes, machines
from dreamer.simulations.whatif.question import Changes, cases
from dreamer.simulations.whatif.scenario import Seen, chosen_model, scenario_of
from dreamer.simulations.whatif.source import read_topology

if TYPE_CHECKING:
    from rich.console import RenderableType

UNMEASURED_MBIT = 100.0
SCENARIO_FILE = "scenario.toml"

__all__ = ["Answer", "Changes", "Run", "answer_document", "answer_table", "whatif"]


@dataclass(frozen=True)
class Run:
    """One case: what it was, and how it went."""

    label: str
    scenario: Scenario
    result: RunResult


@dataclass(frozen=True)
class Answer:
    """The room as it is first, then one run for each change; what was assumed of it."""

    runs: tuple[Run, ...]
    assumed: tuple[str, ...]


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def whatif(
    source: str,
    changes: Changes,
    *,
    room: str | None = None,
    token: str = "",
    mbit: float = UNMEASURED_MBIT,
    seed: int = 1,
    out: Path | None = None,
    report: Callable[[str], None] = _to_stderr,
) -> Answer:
    """Return what changes would do for a room, as the simulator has it.

    Args:
        source: a topology's file, a node's socket or home, or the URL of its API with ``token``.
        mbit: the rate of machines of which none was measured, nor of any other.
        out: a folder for each run's report and scenario, and for the comparisons.
        report: takes one line of progress at a time.

    Raises:
        DreamerError: there is no such topology, or nothing that could be simulated in it.
    """
    if out is not None:
        files.require_pictures()
    topology = read_topology(source, room, token)
    notes = Notes()
    seen = Seen(topology, machines(topology, mbit, notes))
    model = chosen_model(topology, changes.pull)
    asked = [
        (case.label, scenario_of(seen, model, case.label, case.changes, notes))
        for case in cases(changes)
    ]
    runs = []
    for label, scenario in asked:
        report(f"running: {label}")
        runs.append(Run(label, scenario, simulate(scenario, seed)))
    answer = Answer(tuple(runs), tuple(notes.lines))
    if out is not None:
        _write(answer, out, report)
    return answer


def _write(answer: Answer, out: Path, report: Callable[[str], None]) -> None:
    base = answer.runs[0]
    for number, run in enumerate(answer.runs):
        folder = out / f"{number}-{run.label.replace(' ', '-')}"
        report(f"report: {files.write_report(run.result, folder)}")
        # So that it can be changed by hand and run again: dreamer-sim run scenario.toml.
        (folder / SCENARIO_FILE).write_text(dump(run.scenario), "utf-8")
        if run is not base:
            found = compare.compare(base.result, run.result)
            report(f"comparison: {files.write_comparison(found, folder / 'beside-as-it-is')}")


def answer_document(answer: Answer) -> dict[str, Any]:
    """Return an answer in plain values, for ``--json``."""
    base, *changed = answer.runs
    return {
        "assumed": list(answer.assumed),
        "base": files.as_document(base.result),
        "cases": [
            {
                "label": run.label,
                "result": files.as_document(run.result),
                "compared": compare.comparison_document(compare.compare(base.result, run.result)),
            }
            for run in changed
        ],
    }


def answer_table(answer: Answer) -> RenderableType:
    """Return an answer for people: what was assumed, and each case beside the room as it is."""
    from rich.console import Group
    from rich.text import Text

    from dreamer.simulations.report.table import table

    base, *changed = answer.runs
    parts: list[RenderableType] = [Text(f"assumed: {line}") for line in answer.assumed]
    if not changed:
        parts.append(table(base.result))
    for run in changed:
        parts.append(Text(f"\nas it is (A), and with {run.label} (B):", style="bold"))
        parts.append(compare.comparison_table(compare.compare(base.result, run.result)))
    return Group(*parts)
