"""Two runs beside each other: what changed, and whether for the better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreamer.daemon.cli.plain_text import one_line
from dreamer.simulations.report import quantities
from dreamer.simulations.report.measures import Measure, Unit, measures, said
from dreamer.simulations.report.pulls import pulls
from dreamer.simulations.report.record import RESULT_FILE, read_result
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.report.table import headline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Verdict = Literal["better", "worse", "same", "changed"]
_MARKS: dict[Verdict, tuple[str, str]] = {
    "better": ("▲ better", "green"),
    "worse": ("▼ worse", "bold red"),
    "same": ("same", "dim"),
    "changed": ("changed", ""),
}
NOISE = 0.1
"""What the clock on the wall says differs by so much between two equal runs."""
_MANY = 3.0


@dataclass(frozen=True)
class Row:
    """One figure of both runs; None where a run has none. ``verdict``: what B is, beside A."""

    section: str
    name: str
    unit: Unit
    a: float | None
    b: float | None
    verdict: Verdict

    @property
    def a_text(self) -> str:
        """A's value as people read it."""
        return "–" if self.a is None else said(self.a, self.unit)

    @property
    def b_text(self) -> str:
        """B's value as people read it."""
        return "–" if self.b is None else said(self.b, self.unit)

    @property
    def change(self) -> str:
        """From A to B: relative, or of shares in percentage points; empty where there is none."""
        if self.a is None or self.b is None or self.a_text == self.b_text:
            return ""
        if self.unit == "share":
            return f"{100 * (self.b - self.a):+.1f} pp"
        if not self.a:
            return f"+{self.b_text}"
        ratio = self.b / self.a
        return f"× {ratio:,.1f}" if ratio >= _MANY else f"{100 * (ratio - 1):+.1f}%"


@dataclass(frozen=True)
class Comparison:
    """Two runs. ``differs``: in words, what was not the same to begin with."""

    a: RunResult
    b: RunResult
    differs: list[str]
    rows: list[Row]

    @property
    def worse(self) -> list[Row]:
        """The figures in which B is worse."""
        return [row for row in self.rows if row.verdict == "worse"]

    @property
    def summary(self) -> str:
        """In one sentence, how B is beside A."""
        if not self.differs and self.a.engine.trace_hash == self.b.engine.trace_hash:
            return "Both are the same run, event by event."
        better = sum(row.verdict == "better" for row in self.rows)
        return (
            f"Beside A, B is better in {_figures(better)} and worse in {_figures(len(self.worse))}."
        )


def _figures(count: int) -> str:
    return f"{count} figure{'s' * (count != 1)}"


def load(path: Path) -> RunResult:
    """Return the run kept in a JSON file, or in a folder that a report was written to.

    Raises:
        InputError: there is none, or the file is no result of a run.
    """
    return read_result(path / RESULT_FILE if path.is_dir() else path)


def compare(a: RunResult, b: RunResult) -> Comparison:
    """Return both runs beside each other; they may be of different scenarios and sizes."""
    differs = list(_differences(a, b))
    alike = _work(a) == _work(b)
    of_a = {(row.section, row.name): row for row in measures(a)}
    of_b = {(row.section, row.name): row for row in measures(b)}
    # In A's order; what only B has, a lane say, goes to the end of its section.
    sections = list(dict.fromkeys(section for section, _ in [*of_a, *of_b]))
    keys = sorted(dict.fromkeys([*of_a, *of_b]), key=lambda key: sections.index(key[0]))
    rows = [_row(of_a.get(key), of_b.get(key), alike) for key in keys]
    return Comparison(a, b, differs, rows)


def _row(a: Measure | None, b: Measure | None, alike: bool) -> Row:
    one = a or b
    assert one is not None
    # A lane that a run did not use moved no bytes; other figures it simply doesn't have.
    missing = 0.0 if one.unit == "bytes" else None
    values = (a.value if a else missing, b.value if b else missing)
    return Row(one.section, one.name, one.unit, *values, _verdict(one, *values, alike))


def _verdict(measure: Measure, a: float | None, b: float | None, alike: bool) -> Verdict:
    if a is None or b is None:
        return "same" if a == b else "changed"
    # What reads the same is the same: a hundred bytes among gigabytes are nobody's concern.
    if said(a, measure.unit) == said(b, measure.unit):
        return "same"
    if measure.better is None or (measure.scales and not alike):
        return "changed"
    if measure.noisy and abs(b - a) <= NOISE * max(abs(a), abs(b)):
        return "same"
    return "better" if (b < a) == (measure.better == "less") else "worse"


def _work(result: RunResult) -> dict[str, int]:
    """Return how many pulls of each model there were: between equals, amounts can be judged, also
    if one run had a faster network or another seeder."""
    return Counter(pull.model for pull in pulls(result.each))


def _differences(a: RunResult, b: RunResult) -> Iterator[str]:
    for what, one, other in (
        ("scenario", a.scenario, b.scenario),
        ("seed", str(a.seed), str(b.seed)),
        ("machines", f"{a.nodes:,}", f"{b.nodes:,}"),
        ("groups", _counted(a, "group"), _counted(b, "group")),
        ("models pulled", _counted(a, "model"), _counted(b, "model")),
        ("lower bound", quantities.duration(a.bound_s), quantities.duration(b.bound_s)),
    ):
        if one != other:
            yield one_line(f"{what}: {one or 'none'} in A, {other or 'none'} in B")


def _counted(result: RunResult, what: Literal["group", "model"]) -> str:
    if what == "group":
        counts = Counter(node.group for node in result.each)
    else:
        counts = Counter(pull.model for pull in pulls(result.each))
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def comparison_document(comparison: Comparison) -> dict[str, object]:
    """Return the comparison as plain values for JSON."""
    return {
        "summary": comparison.summary,
        "differs": comparison.differs,
        "figures": [asdict(row) for row in comparison.rows],
    }


def comparison_table(comparison: Comparison) -> RenderableType:
    """Return the comparison as a table, below it what differed to begin with."""
    from rich.console import Group
    from rich.text import Text

    lines = [f"A: {headline(comparison.a)}", f"B: {headline(comparison.b)}", ""]
    below = ["", *(f"differs: {words}" for words in comparison.differs), comparison.summary]
    return Group(*map(Text, lines), _figures_table(comparison.rows), *map(Text, below))


def _figures_table(rows: list[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    laid = Table(box=None, pad_edge=False)
    laid.add_column("figure", style="bold")
    for title in ("A", "B", "change"):
        laid.add_column(title, justify="right", no_wrap=True)
    laid.add_column("B is")
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            laid.add_row("")
            laid.add_row(Text(section, style="cyan"))
        mark, style = _MARKS[row.verdict]
        laid.add_row(row.name, row.a_text, row.b_text, row.change, Text(mark, style=style))
    return laid
