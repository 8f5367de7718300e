"""What is asked of a room: which model is pulled, by whom, and what is to be different."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Changes:
    """What a person asks. None and 0: as it is.

    ``pull`` is the start of a model's id, or its name; None: the newest. ``relay_budget_mib`` is
    for each node with each peer, as in the settings. ``cache_gb`` is the room for models on the
    node that told of the room. ``newcomers`` machines come and pull, like the median of the rest.
    """

    pull: str | None = None
    more_seeders: int = 0
    relay_budget_mib: int | None = None
    cache_gb: float | None = None
    newcomers: int = 0


@dataclass(frozen=True)
class Case:
    """One run: the room with some of the changes; ``label`` says which."""

    label: str
    changes: Changes


def cases(asked: Changes) -> list[Case]:
    """Return what to run: the room as it is, then each change by itself.

    Newcomers are a change if nothing else is asked; else they come in every case, for then the
    question is what the others would change for them.
    """
    base = replace(asked, more_seeders=0, relay_budget_mib=None, cache_gb=None)
    single = list(_single(asked, base))
    if not single and asked.newcomers:
        return [
            Case("as it is", replace(base, newcomers=0)),
            Case(_counted(asked.newcomers, "newcomer"), base),
        ]
    return [Case("as it is", base), *single]


def _single(asked: Changes, base: Changes) -> Iterator[Case]:
    if asked.more_seeders:
        label = _counted(asked.more_seeders, "more seeder")
        yield Case(label, replace(base, more_seeders=asked.more_seeders))
    if asked.relay_budget_mib is not None:
        label = f"{asked.relay_budget_mib} MiB of relay a peer"
        yield Case(label, replace(base, relay_budget_mib=asked.relay_budget_mib))
    if asked.cache_gb is not None:
        label = f"a cache of {asked.cache_gb:g} GB"
        yield Case(label, replace(base, cache_gb=asked.cache_gb))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
