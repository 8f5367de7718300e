"""What the search leaves behind: scenarios that failed once, for every test run to replay."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from textwrap import shorten, wrap

from dreamer.simulations import regressions
from dreamer.simulations.fuzz.trial import Failure
from dreamer.simulations.scenario.loader import dump
from dreamer.simulations.scenario.model import Scenario

SUFFIX = ".toml"
WIDTH = 96


def committed() -> list[Path]:
    """Return the files of all that was ever found, in order."""
    return sorted(_folder().glob(f"*{SUFFIX}"))


def write(scenario: Scenario, failure: Failure, found_by: str, folder: Path | None = None) -> Path:
    """Write a scenario to a file of its own, with what failed; return where.

    Args:
        found_by: the command that found it.
        folder: instead of where test runs look.
    """
    folder = folder or _folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = _free(folder, _slug(failure.kind))
    scenario = replace(scenario, name=path.stem, about=shorten(failure.words, WIDTH))
    said = [*wrap(failure.words, WIDTH), f"Found by: {found_by}"]
    comments = "".join(f"# {line}\n" for line in said)
    path.write_text(f"{comments}\n{dump(scenario)}", encoding="utf-8")
    return path


def _folder() -> Path:
    return Path(regressions.__file__).parent


def _slug(kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")[:40]


def _free(folder: Path, slug: str) -> Path:
    number = 1
    while (path := folder / f"{slug}-{number}{SUFFIX}").exists():
        number += 1
    return path
