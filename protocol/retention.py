"""Retention: which of a room's models stay by its policy, and which are to be withdrawn.

A model stays for any one reason: an alias means it, a rule of the policy keeps it, or it was
published only just. A room without rules keeps everything. What goes is withdrawn from the registry
and nothing more: its content goes later, with the garbage, and until then pushing it again costs
no byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dreamer.protocol.durations import duration
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.origin_limits import RETENTION_GRACE_S
from dreamer.protocol.registry.policy import Retention
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.statements import AliasMove
from dreamer.protocol.registry.view import Model, Registry


@dataclass(frozen=True)
class Verdict:
    """A model, and why it stays; no reason at all: it goes."""

    model: Model
    reasons: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)


def rules_said(policy: Retention) -> tuple[str, ...]:
    """Return the rules of a policy, for people; empty when there are none."""
    said: list[str] = []
    if policy.keep_last is not None:
        said.append(f"the last {policy.keep_last} of each alias")
    if policy.keep_any_tag:
        said.append("what has a tag")
    elif policy.keep_tagged:
        said.append(f"what has one of the tags {', '.join(policy.keep_tagged)}")
    if policy.max_age_s is not None:
        said.append(f"what is younger than {duration(policy.max_age_s)}")
    return tuple(said)


def judge(
    registry: Registry, policy: Retention, now: float, grace_s: float = RETENTION_GRACE_S
) -> tuple[Verdict, ...]:
    """Return for each model whether it stays at ``now`` (epoch seconds), the newest first.

    Temporary uploads are not among them: their time is set. What was published less than
    ``grace_s`` ago stays, so that whoever pushes has time to name it.
    """
    recent = _recent(registry, policy.keep_last or 0)
    lasting = [model for model in registry.models.values() if model.expires_at is None]
    lasting.sort(key=lambda model: (-model.at, model.manifest_id))
    verdicts = []
    for model in lasting:
        reasons = [*_names(registry, model), *recent.get(model.manifest_id, ())]
        reasons += _by_rule(model, policy, now)
        if policy.keeps_all:
            reasons.append("the room has no rules, or some that are not known here")
        if model.at + grace_s > now:
            reasons.append(f"published less than {duration(grace_s)} ago")
        verdicts.append(Verdict(model, tuple(reasons)))
    return tuple(verdicts)


def _names(registry: Registry, model: Model) -> Iterator[str]:
    for alias in model.aliases:
        protected = " (protected)" if registry.protections.get(alias) else ""
        yield f"alias {alias}{protected}"


def _by_rule(model: Model, policy: Retention, now: float) -> Iterator[str]:
    for tag in model.tags:
        if policy.keep_any_tag or tag in policy.keep_tagged:
            yield f"tag {tag}"
    if policy.max_age_s is not None and model.at + policy.max_age_s > now:
        yield f"younger than {duration(policy.max_age_s)}"


def _recent(registry: Registry, keep_last: int) -> Mapping[ManifestId, list[str]]:
    """Return the models that each alias meant last, ``keep_last`` of them; removed aliases too."""
    found: dict[ManifestId, list[str]] = {}
    if not keep_last:
        return found
    for alias, moves in sorted(registry.history.items()):
        for target in _targets(registry, moves)[:keep_last]:
            found.setdefault(target, []).append(f"one of the last {keep_last} of {alias}")
    return found


def _targets(registry: Registry, moves: tuple[Record[AliasMove], ...]) -> list[ManifestId]:
    """Return what an alias meant, the last first, each once: what is there no more counts not."""
    latest_first = (move.said.manifest_id for move in reversed(moves))
    present = (target for target in latest_first if target is not None)
    return [target for target in dict.fromkeys(present) if target in registry.models]
