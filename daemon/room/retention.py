"""A room's rules of what stays, and what goes by them; see ``protocol/retention.py``."""

from __future__ import annotations

import time
from dataclasses import replace

from dreamer.daemon.room.collecting import RoomGarbage
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.surfaces.retention import (
    GarbageReport,
    Judged,
    KeepRules,
    PolicyInfo,
    RetentionReport,
)
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import short
from dreamer.protocol.registry import policy as policies
from dreamer.protocol.registry.changes import SetPolicy, Withdraw
from dreamer.protocol.retention import Verdict, judge, rules_said

_REASON = "by the room's rules of retention"


class RoomRetention:
    """The rooms of this node; see ``surfaces.retention.Retention`` for each call."""

    def __init__(self, rooms: RoomKeeper, garbage: RoomGarbage) -> None:
        self._rooms = rooms
        self._garbage = garbage

    async def policy(self, room: str | None) -> PolicyInfo:
        """Return a room's rules."""
        session = self._rooms.get(room)
        registry = await session.read_registry()
        return _info(session.card.name, registry.policy.retention)

    async def set_policy(self, room: str | None, rules: KeepRules) -> PolicyInfo:
        """Set a room's rules; what else its policy says stays."""
        session = self._rooms.get(room)
        before = (await session.registry.refresh()).registry.policy
        if before.retention.extra:
            raise InputError(
                f"room {session.card.name} has rules that this version of Dreamer does not know: "
                "update it before you change them"
            )
        retention = policies.Retention(
            rules.keep_last, rules.keep_tagged, rules.keep_any_tag, rules.max_age_s
        )
        wanted = replace(before, retention=retention)
        changed = await session.registry.change(SetPolicy(wanted))
        return _info(session.card.name, changed.registry.policy.retention)

    async def retain(self, room: str | None, apply: bool) -> RetentionReport:
        """Return what stays and what goes."""
        session = self._rooms.get(room)
        # As it is now, not as it was last seen: what goes by an old copy may be in use today.
        verified = await session.registry.refresh()
        now = time.time()
        registry = verified.registry.as_of(now)
        verdicts = judge(registry, registry.policy.retention, now)
        going = [one for one in verdicts if not one.kept]
        if apply and going:
            # Refused if one was named, tagged or published since: then nothing is withdrawn.
            await session.registry.change(
                *(
                    Withdraw(one.model.manifest_id, _REASON, as_seen=verified.last_serial)
                    for one in going
                )
            )
        return RetentionReport(
            room=session.card.name,
            applied=apply,
            said=rules_said(registry.policy.retention),
            kept=tuple(_judged(one) for one in verdicts if one.kept),
            going=tuple(map(_judged, going)),
        )

    async def collect(self, room: str | None, apply: bool, grace_s: float) -> GarbageReport:
        """Return the garbage at a room's origin."""
        return await self._garbage.collect(self._rooms.get(room), apply, grace_s)


def _info(room: str, retention: policies.Retention) -> PolicyInfo:
    rules = KeepRules(
        retention.keep_last, retention.keep_tagged, retention.keep_any_tag, retention.max_age_s
    )
    return PolicyInfo(room, rules, rules_said(retention))


def _judged(verdict: Verdict) -> Judged:
    model = verdict.model
    return Judged(
        manifest_id=model.manifest_id.hex(),
        short_id=short(model.manifest_id),
        name=model.name,
        size_bytes=model.size_bytes,
        at=model.at,
        tags=model.tags,
        reasons=verdict.reasons,
    )
