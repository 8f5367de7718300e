"""The figures of a run in a terminal: with rich, or as plain lines for files and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.daemon.cli.plain_text import one_line
from dreamer.simulations.report.measures import Measure, measures
from dreamer.simulations.report.result import RunResult

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

# A rule that breaks tends to break everywhere.
_BROKEN_MAX = 10


def plain(result: RunResult) -> str:
    """Return the figures as lines of aligned text; names in it obey no terminal."""
    rows = measures(result)
    name_chars = max(len(row.name) for row in rows)
    text_chars = max(len(row.text) for row in rows)
    lines = [headline(result)]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            lines += ["", section]
        lines.append(f"  {row.name:<{name_chars}}  {row.text:>{text_chars}}  {row.note}".rstrip())
    return "\n".join([*lines, "", *(f"{what} {words}" for what, words, _ in verdicts(result)), ""])


def table(result: RunResult) -> RenderableType:
    """Return the figures as a table, and below it what did not hold and how to replay the run."""
    from rich.console import Group
    from rich.text import Text

    below = [
        Text.assemble((what, style), " ", one_line(words))
        for what, words, style in verdicts(result)
    ]
    return Group(_figures(result, measures(result)), *below)


def _figures(result: RunResult, rows: list[Measure]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Text, not str: rich would read square brackets in a str as markup.
    laid = Table(
        title=Text(headline(result)), title_justify="left", box=None, pad_edge=False, min_width=60
    )
    laid.add_column(Text("figure"), style="bold")
    laid.add_column(Text("value"), justify="right", no_wrap=True)
    laid.add_column(Text(""), style="dim")
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            laid.add_row("")
            laid.add_row(Text(section, style="cyan"))
        laid.add_row(Text(row.name), Text(row.text), Text(row.note))
    return laid


def headline(result: RunResult) -> str:
    """Return in one line which run it was."""
    return one_line(f"{result.scenario}, {result.nodes:,} machines, seed {result.seed}")


def invariants(result: RunResult) -> str:
    """Return in words what is known where none was found broken: what nobody checks holds too."""
    if not result.checks:
        return "none were checked in this run"
    return f"all held, at each of {result.checks:,} checks"


def expected(result: RunResult) -> str:
    """Return in words what is known where no expected figure was missed."""
    if not result.expected:
        return "no figures were expected of this run"
    return f"all figures were reached ({result.expected})"


def verdicts(result: RunResult) -> list[tuple[str, str, str]]:
    """Return what to know beside the figures: what it is, in words, and a style of rich."""
    told = result.violations[:_BROKEN_MAX]
    broken = [("broken:", one_line(words), "bold red") for words in told]
    if more := len(result.violations) - len(told):
        broken.append(("broken:", f"and {more:,} more", "bold red"))
    missed = [("missed:", one_line(words), "bold yellow") for words in result.missed]
    return [
        *(broken or [("invariants:", invariants(result), "green" if result.checks else "dim")]),
        *(missed or [("expected:", expected(result), "green" if result.expected else "dim")]),
        ("trace:", one_line(result.engine.trace_hash), "dim"),
        ("replay:", one_line(result.replay), "dim"),
    ]
