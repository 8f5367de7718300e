"""A run, or two beside each other, as one self-contained HTML page.

Nothing in it is fetched from anywhere and nothing in it is a script: it carries a policy that
forbids both, and opens from a disk, a mail or a bucket.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from dreamer.simulations.report import quantities
from dreamer.simulations.report.compare import Comparison, Row
from dreamer.simulations.report.measures import Measure, measures
from dreamer.simulations.report.pictures import Picture
from dreamer.simulations.report.pulls import groups, slowest
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.report.table import expected, headline, invariants

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Sectioned = TypeVar("Sectioned", Measure, Row)

_HEADLINE = (
    "pulls finished",
    "last completion",
    "last ÷ lower bound",
    "origin copies",
    "relay bytes",
    "wasted share",
)
# A rule that breaks tends to break everywhere: the first few say it, a page of them buries it.
_BROKEN_FIRST, _BROKEN_MAX = 5, 100


def page(result: RunResult, shown: Sequence[Picture]) -> str:
    """Return the report of a run as HTML, with these pictures of it.

    Raises:
        InputError: matplotlib is not installed.
    """
    rows = measures(result)
    return _rendered(
        "report.html.j2",
        title=headline(result),
        result=result,
        headline=[row for row in rows if row.name in _HEADLINE],
        sections=_sections(rows),
        pictures=shown,
        groups=groups(result),
        slowest=slowest(result),
        invariants=invariants(result),
        expected=expected(result),
        broken={
            "first": result.violations[:_BROKEN_FIRST],
            "more": result.violations[_BROKEN_FIRST:_BROKEN_MAX],
            "left": max(0, len(result.violations) - _BROKEN_MAX),
        },
    )


def comparison_page(comparison: Comparison, shown: Sequence[Picture]) -> str:
    """Return two runs beside each other as HTML, with these pictures of both.

    Raises:
        InputError: matplotlib is not installed.
    """
    return _rendered(
        "comparison.html.j2",
        title=f"{comparison.a.scenario} (A) and {comparison.b.scenario} (B)",
        comparison=comparison,
        sections=_sections(comparison.rows),
        pictures=shown,
    )


def _sections(rows: Sequence[Sectioned]) -> list[tuple[str, list[Sectioned]]]:
    return [(name, list(some)) for name, some in groupby(rows, key=lambda row: row.section)]


def _rendered(template: str, **values: object) -> str:
    from markupsafe import Markup

    css = _resource("page.css")
    # Named by its hash, the one style of the page is allowed, and none that a name smuggles in.
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template(template)
        .render(
            css=Markup(css),  # noqa: S704
            policy=policy,
            inline=_inline,
            **values,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # Names of machines and models come from other people's rooms: all of it is escaped.
    made = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["size"] = quantities.size
    made.filters["time"] = lambda value: "–" if value is None else quantities.duration(value)
    made.filters["headline"] = headline
    return made


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _inline(picture: Picture) -> Markup:
    from markupsafe import Markup

    # An XML writer has escaped the names in it.
    return Markup(picture.drawing.inline)  # noqa: S704
