"""Makes a failing scenario small: whatever can be left out, halved or made ordinary, is.

Greedy, as property-based testing does it: a simpler scenario that still fails in the same way takes
the place of the one before, until none of those that could be tried does. A run depends on nothing
but its scenario and seed, so each try says for certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any, TypeVar

from dreamer.protocol.errors import InputError
from dreamer.simulations.scenario.model import Group, ModelSpec, Scenario
from dreamer.simulations.scenario.references import check

Value = TypeVar("Value", bound=Any)

TRIES_MAX = 400
SIZE_GB_MIN = 0.001

_KEPT = ("name", "about", "seed", "models", "groups")
"""Fields of a scenario that are not made ordinary as a whole."""

_KEPT_OF_GROUP = ("name", "count", "holds", "pulls", "misdeed")


def shrink(
    scenario: Scenario, fails: Callable[[Scenario], bool], tries: int = TRIES_MAX
) -> Scenario:
    """Return the simplest scenario found that ``fails`` as the given one does."""
    going_on = True
    while going_on:
        going_on = False
        for simpler in _simpler(scenario):
            if tries <= 0:
                return scenario
            if not _possible(simpler):
                continue
            tries -= 1
            if fails(simpler):
                # From the boldest again: what was needed before may not be any more.
                scenario, going_on = simpler, True
                break
    return scenario


def _possible(scenario: Scenario) -> bool:
    try:
        check(scenario)
    except InputError:
        return False
    return True


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with a little less in them, the boldest first."""
    yield from _without_groups(scenario)
    yield from _without_models(scenario)
    yield from _ordinary(scenario, _KEPT)
    yield from _each(scenario, "groups", _simpler_group)
    yield from _each(scenario, "models", _simpler_model)
    for name in ("network", "origin", "partitions", "relays"):
        yield from _below(scenario, name)
    if scenario.until_s > 60:
        yield replace(scenario, until_s=scenario.until_s / 2)


def _without_groups(scenario: Scenario) -> Iterator[Scenario]:
    for index, gone in enumerate(scenario.groups):
        kept = (*scenario.groups[:index], *scenario.groups[index + 1 :])
        partitions = tuple(
            replace(one, groups=tuple(name for name in one.groups if name != gone.name))
            for one in scenario.partitions
        )
        partitions = tuple(one for one in partitions if one.groups)
        yield replace(scenario, groups=kept, partitions=partitions)


def _without_models(scenario: Scenario) -> Iterator[Scenario]:
    for gone in scenario.models if len(scenario.models) > 1 else ():
        groups = tuple(
            replace(
                group,
                holds=tuple(name for name in group.holds if name != gone.name),
                pulls=tuple(wish for wish in group.pulls if wish.model != gone.name),
            )
            for group in scenario.groups
        )
        origin = scenario.origin
        if origin is not None:
            held = tuple(name for name in origin.holds if name != gone.name)
            origin = replace(origin, holds=held)
        models = tuple(model for model in scenario.models if model != gone)
        yield replace(scenario, models=models, groups=groups, origin=origin)


def _simpler_group(group: Group) -> Iterator[Group]:
    for count in dict.fromkeys((1, group.count // 2, group.count - 1)):
        if 0 < count < group.count:
            yield replace(group, count=count)
    for index in range(len(group.pulls)):
        yield replace(group, pulls=(*group.pulls[:index], *group.pulls[index + 1 :]))
    for index, wish in enumerate(group.pulls):
        plain = replace(wish, from_s=0.0, to_s=0.0)
        if plain != wish:
            yield replace(group, pulls=(*group.pulls[:index], plain, *group.pulls[index + 1 :]))
    if group.misdeed is not None:
        yield replace(group, misdeed=None)
    yield from _ordinary(group, _KEPT_OF_GROUP)


def _simpler_model(model: ModelSpec) -> Iterator[ModelSpec]:
    if model.files > 1:
        yield replace(model, files=1)
    for part in (0.25, 0.5, 0.75):
        size_gb = max(SIZE_GB_MIN, round(model.size_gb * part, 4))
        if size_gb < model.size_gb:
            yield replace(model, size_gb=size_gb)


# Any dataclass


def _ordinary(value: Value, kept: tuple[str, ...] = ()) -> Iterator[Value]:
    """Yield it with one field after the other at its default."""
    for one in fields(value):
        default = _default(one)
        if one.name not in kept and default is not MISSING and getattr(value, one.name) != default:
            yield replace(value, **{one.name: default})


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default


def _each(
    scenario: Scenario, name: str, simpler: Callable[[Any], Iterator[Any]]
) -> Iterator[Scenario]:
    """Yield the scenario with one of several made simpler."""
    several = getattr(scenario, name)
    for index, one in enumerate(several):
        for less in simpler(one):
            yield _with(scenario, name, (*several[:index], less, *several[index + 1 :]))


def _below(scenario: Scenario, name: str) -> Iterator[Scenario]:
    """Yield the scenario with less in one of its parts."""
    value = getattr(scenario, name)
    if isinstance(value, tuple):
        for index in range(len(value)):
            yield _with(scenario, name, (*value[:index], *value[index + 1 :]))
        yield from _each(scenario, name, _ordinary)
    elif is_dataclass(value):
        for less in _ordinary(value):
            yield _with(scenario, name, less)


def _with(scenario: Scenario, name: str, value: Any) -> Scenario:
    return replace(scenario, **{name: value})
