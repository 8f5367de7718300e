"""A result as CSV for notebooks: UTF-8, one header line, commas, a dot in numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from dreamer.simulations.report.measures import lane_totals
from dreamer.simulations.report.pulls import pulls
from dreamer.simulations.report.result import RunResult


def nodes_csv(result: RunResult) -> str:
    """Return one line for each machine.

    ``name``, ``group``; ``honest`` and ``stayed`` (1 or 0: it did not misbehave; it was there to
    the end); ``up_bytes``, ``down_bytes`` (of verified blocks); ``pulls_finished``,
    ``pulls_unfinished``; ``slowest_pull_s`` (of those finished, from its own beginning),
    ``finished_at_s`` (the last of them, in virtual time), both empty where none was.
    """
    header = (
        "name group honest stayed up_bytes down_bytes pulls_finished pulls_unfinished "
        "slowest_pull_s finished_at_s"
    )
    rows = (
        (
            node.name,
            node.group,
            int(node.honest),
            int(node.stayed),
            node.up_bytes,
            node.down_bytes,
            len(node.pulled_s),
            len(node.unfinished),
            max(node.pulled_s.values(), default=""),
            max(node.finished_at_s.values(), default=""),
        )
        for node in result.each
    )
    return _csv(header.split(), rows)


def pulls_csv(result: RunResult) -> str:
    """Return one line for each model that a machine pulled.

    ``name``, ``group`` of the machine; ``honest``, ``stayed`` (1 or 0); ``model``; ``pulled_s``
    (how long it took), ``finished_at_s`` (in virtual time), both empty where it is not whole;
    ``why`` not.
    """
    rows = (
        (
            pull.node.name,
            pull.node.group,
            int(pull.node.honest),
            int(pull.node.stayed),
            pull.model,
            "" if pull.seconds is None else pull.seconds,
            pull.node.finished_at_s.get(pull.model, ""),
            pull.why,
        )
        for pull in pulls(result.each)
    )
    header = "name group honest stayed model pulled_s finished_at_s why"
    return _csv(header.split(), rows)


def traffic_csv(result: RunResult) -> str:
    """Return one line for each step of the run's traffic.

    ``from_s``: when it began, in virtual time; ``<lane>_bytes`` for each lane, cheapest first:
    what arrived in this step; ``relay_so_far_bytes``: what had passed relays at its end, whatever
    became of it.
    """
    traffic, so_far = result.traffic, result.relay.over_time
    lanes = list(lane_totals(traffic))
    steps = max((len(traffic.by_lane[lane]) for lane in lanes), default=0)
    rows = (
        (
            at * traffic.step_s,
            *(traffic.by_lane[lane][at] for lane in lanes),
            so_far[at] if at < len(so_far) else result.relay.bytes,
        )
        for at in range(steps)
    )
    return _csv(["from_s", *(f"{lane}_bytes" for lane in lanes), "relay_so_far_bytes"], rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
