"""Scenarios from TOML files, those that come with Dreamer by name, and at other sizes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreamer.protocol.errors import InputError
from dreamer.simulations import scenarios
from dreamer.simulations.scenario.bounds import MACHINES_MAX
from dreamer.simulations.scenario.model import Group, Scenario
from dreamer.simulations.scenario.references import check
from dreamer.simulations.scenario.tables import nearest, read
from dreamer.simulations.scenario.writing import dump

__all__ = [
    "committed",
    "dump",
    "find",
    "is_offload",
    "load",
    "loads",
    "parse",
    "scaled",
    "scaling",
]

SUFFIX = ".toml"


def load(path: Path) -> Scenario:
    """Return the scenario in a file.

    Raises:
        InputError: it can't be read, or what it says can't be: with the file, the key, and what
            would be allowed.
    """
    with naming(path.name):
        return _checked(parse(path))


def loads(text: str) -> Scenario:
    """Return the scenario that a TOML text describes.

    Raises:
        InputError: what it says can't be.
    """
    return _checked(_tables(text))


def parse(path: Path) -> dict[str, Any]:
    """Return the tables of a file, whatever they say.

    Raises:
        InputError: there is no such file, or it is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"can't read {path}: {reason}") from error
    return _tables(text)


def is_offload(table: dict[str, Any]) -> bool:
    """Return whether a file is about requests and GPUs (``capacity/``), not about a swarm."""
    return "offload" in table


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Put a file's name before whatever is wrong with what is in it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def committed() -> dict[str, Path]:
    """Return the files of the scenarios that come with Dreamer, by name, in order."""
    folder = Path(scenarios.__file__).parent
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find(name: str) -> Path:
    """Return the file of a scenario: one of those that come with Dreamer, or any by its path.

    Raises:
        InputError: there is none of that name.
    """
    if name.endswith(SUFFIX) or "/" in name:
        return Path(name)
    known = committed()
    if name not in known:
        hint = nearest(name, list(known)) or "; a file's name ends in .toml"
        raise InputError(f"there is no scenario '{name}'{hint} (see: dreamer-sim list)")
    return known[name]


def scaling(scenario: Scenario) -> int:
    """Return how many machines there are of those that ``scaled`` makes more or fewer."""
    return sum(group.count for group in scenario.groups if _scales(group))


def scaled(scenario: Scenario, nodes: int) -> Scenario:
    """Return the scenario with ``nodes`` machines that pull, in the same proportions.

    Groups that pull something scale, unless they say ``scales = false``; of each at least one
    machine stays. What gives but never pulls (seeds), origin, relays and lines stay as they are:
    fewer machines have more of them each.

    Raises:
        InputError: ``nodes`` is out of bounds.
    """
    if not 1 <= nodes <= MACHINES_MAX:
        raise InputError(f"{nodes} machines can't be: say a number from 1 to {MACHINES_MAX}")
    counts = _shared_out(nodes, [group.count for group in scenario.groups if _scales(group)])
    groups = tuple(
        replace(group, count=counts.pop(0)) if _scales(group) else group
        for group in scenario.groups
    )
    return replace(scenario, groups=groups)


def _scales(group: Group) -> bool:
    return bool(group.pulls) and group.scales


def _shared_out(total: int, counts: list[int]) -> list[int]:
    """Return counts in the same proportions that add up to ``total``, none below 1.

    There may be more counts than ``total``: then each is 1.
    """
    before = sum(counts)
    shares = [max(1, count * total // before) for count in counts]
    while (left := total - sum(shares)) and not (left < 0 and max(shares) == 1):
        # One by one to, or from, whoever is furthest from its proportion.
        off = [count * total / before - share for count, share in zip(counts, shares, strict=True)]
        if left > 0:
            shares[off.index(max(off))] += 1
        else:
            shares[_most_over(off, shares)] -= 1
    return shares


def _most_over(off: list[float], shares: list[int]) -> int:
    """Return which of those that can lose one has most above its proportion."""
    return min((i for i, share in enumerate(shares) if share > 1), key=lambda i: off[i])


def _tables(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"this is no TOML: {error}") from error


def _checked(table: dict[str, Any]) -> Scenario:
    scenario = read(Scenario, table, "")
    check(scenario)
    return scenario
