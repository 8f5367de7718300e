"""What a table alone can't show to be wrong: names of things that are elsewhere, or nowhere.

Also that what is asked for can happen at all: a model that nobody holds is pulled in vain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dreamer.protocol.errors import InputError
from dreamer.simulations.scenario.bounds import NAME_MAX
from dreamer.simulations.scenario.model import Group, Scenario, Span, Wish
from dreamer.simulations.scenario.tables import nearest

# Names become those of machines, files and columns.
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_MAX - 1}}}", re.ASCII)

Complaint = tuple[str, str]
"""Where in the file, and what is wrong there."""


def check(scenario: Scenario) -> None:
    """Complain of the first thing that doesn't fit.

    Raises:
        InputError: as ``groups[0].holds[1]: there is no model 'bse'; did you mean 'base'?``
    """
    for complaints in (_names, _models, _moments, _groups, _partitions, _regions):
        for where, what in complaints(scenario):
            raise InputError(f"{where}: {what}")


def regions(scenario: Scenario) -> list[str]:
    """Return every region in which something is, in the order of the file."""
    there = [group.region for group in scenario.groups]
    there += [scenario.origin.region] if scenario.origin else []
    there += [relay.region for relay in scenario.relays]
    return list(dict.fromkeys(there))


def _names(scenario: Scenario) -> Iterator[Complaint]:
    yield from _named("name", [scenario.name])
    yield from _named("models", [model.name for model in scenario.models])
    yield from _named("groups", [group.name for group in scenario.groups])


def _named(where: str, names: Sequence[str]) -> Iterator[Complaint]:
    if not names:
        yield where, f"there are none: add [[{where}]]"
    for index, name in enumerate(names):
        at = where if where == "name" else f"{where}[{index}].name"
        if not _NAME.fullmatch(name):
            yield at, f"{name!r:.80} is no name: use at most {NAME_MAX} letters, digits and . _ -"
        if name in names[:index]:
            yield at, f"'{name}' is the name of another one: give each its own"


def _models(scenario: Scenario) -> Iterator[Complaint]:
    known = [model.name for model in scenario.models]
    held = {name for group in scenario.groups for name in group.holds}
    if scenario.origin is not None:
        yield from _unknown("origin.holds", scenario.origin.holds, "model", known)
        held.update(scenario.origin.holds)
    for index, group in enumerate(scenario.groups):
        yield from _unknown(f"groups[{index}].holds", group.holds, "model", known)
        for at, wish in _wishes(index, group):
            yield from _unknown(at, [wish.model], "model", known)
            if wish.model not in held:
                yield at, f"nobody holds '{wish.model}': name it in some group's or origin's holds"


def _wishes(index: int, group: Group) -> list[tuple[str, Wish]]:
    return [(f"groups[{index}].pulls[{at}]", wish) for at, wish in enumerate(group.pulls)]


def _moments(scenario: Scenario) -> Iterator[Complaint]:
    spans: list[tuple[str, float, float]] = []
    for index, group in enumerate(scenario.groups):
        spans.append((f"groups[{index}].joins_to_s", group.joins_from_s, group.joins_to_s))
        spans += [(f"{at}.to_s", wish.from_s, wish.to_s) for at, wish in _wishes(index, group)]
    for where, begins_s, ends_s in spans:
        if ends_s < begins_s and ends_s != 0:
            yield where, f"{ends_s:g} is before its beginning at {begins_s:g}"
    for where, span in _spans(scenario):
        if span.to_s <= span.from_s:
            yield where, f"from {span.from_s:g} s to {span.to_s:g} s is no time"


def _spans(scenario: Scenario) -> Iterator[tuple[str, Span]]:
    for index, one in enumerate(scenario.partitions):
        yield f"partitions[{index}].span", one.span
    for index, span in enumerate(scenario.tracker_outages):
        yield f"tracker_outages[{index}]", span


def _groups(scenario: Scenario) -> Iterator[Complaint]:
    for index, group in enumerate(scenario.groups):
        if 0 < group.leaves_at_s <= group.joins_from_s:
            yield f"groups[{index}].leaves_at_s", "they would leave before they join"
        if group.pulls and not group.uses_peers and not group.uses_origin:
            yield f"groups[{index}]", "it pulls, but uses neither peers nor the origin"
    if not any(group.pulls for group in scenario.groups):
        yield "groups", "nobody pulls anything: give a group pulls = [{ model = … }]"


def _partitions(scenario: Scenario) -> Iterator[Complaint]:
    known = [group.name for group in scenario.groups]
    for index, one in enumerate(scenario.partitions):
        yield from _unknown(f"partitions[{index}].groups", one.groups, "group", known)


def _regions(scenario: Scenario) -> Iterator[Complaint]:
    known = regions(scenario)
    pairs: set[frozenset[str]] = set()
    for index, line in enumerate(scenario.network.lines):
        yield from _unknown(f"network.lines[{index}].one", [line.one], "region", known)
        yield from _unknown(f"network.lines[{index}].other", [line.other], "region", known)
        if (pair := frozenset((line.one, line.other))) in pairs:
            yield (
                f"network.lines[{index}]",
                f"a line between {line.one} and {line.other} is there already",
            )
        pairs.add(pair)


def _unknown(where: str, names: Iterable[str], kind: str, known: list[str]) -> Iterator[Complaint]:
    for index, name in enumerate(names):
        if name not in known:
            near = nearest(name, known) or f"; there are: {', '.join(known)}"
            at = f"{where}[{index}]" if where.endswith(("holds", "groups")) else where
            yield at, f"there is no {kind} '{name}'{near}"
