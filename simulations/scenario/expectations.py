"""What a scenario's ``[expect]`` asks of a run, and in words what the run falls short of."""

from __future__ import annotations

from collections.abc import Iterator

from dreamer.protocol.limits import MIB
from dreamer.simulations.report.result import NodeResult, RunResult
from dreamer.simulations.scenario.model import Scenario

_NAMED_AT_MOST = 5


def missed(scenario: Scenario, result: RunResult) -> list[str]:
    """Return in words each expected figure that a run did not reach."""
    return [*_figures(scenario, result), *_unfinished(scenario, result)]


def expected(scenario: Scenario) -> int:
    """Return how many figures a scenario asks for."""
    asked = scenario.expect
    optional = (asked.last_over_bound, asked.origin_copies, asked.relay_mib)
    # That bad blocks are not kept is asked of every run.
    return 1 + asked.all_finish + sum(figure is not None for figure in optional)


def _figures(scenario: Scenario, result: RunResult) -> Iterator[str]:
    expect = scenario.expect
    over = result.last_s / result.bound_s if result.bound_s else 0.0
    if expect.last_over_bound is not None and over > expect.last_over_bound:
        yield (
            f"the last completion took {result.last_s:.1f} s, {over:.2f} times the least possible "
            f"{result.bound_s:.1f} s; expected at most {expect.last_over_bound:g} times"
        )
    copies = result.origin.copies
    if expect.origin_copies is not None and copies > expect.origin_copies:
        yield f"the origin sent {copies:.3f} copies; expected at most {expect.origin_copies:g}"
    if result.bad_blocks_kept > expect.bad_blocks_kept:
        yield f"{result.bad_blocks_kept} bad blocks were kept; expected {expect.bad_blocks_kept}"
    relayed_mib = result.relay.bytes / MIB
    if expect.relay_mib is not None and relayed_mib > expect.relay_mib:
        yield f"relays carried {relayed_mib:,.0f} MiB; expected at most {expect.relay_mib:g} MiB"


def _unfinished(scenario: Scenario, result: RunResult) -> Iterator[str]:
    if not scenario.expect.all_finish:
        return
    wishes = {group.name: [wish.model for wish in group.pulls] for group in scenario.groups}
    # Whoever went may have gone in the middle; and to do harm, nothing need be finished.
    short = [
        f"{node.name} ({_why(node, model)})"
        for node in result.each
        if node.stayed and node.honest
        for model in wishes[node.group]
        if model not in node.pulled_s
    ]
    if short:
        named = ", ".join(short[:_NAMED_AT_MOST])
        more = ", …" if len(short) > _NAMED_AT_MOST else ""
        yield f"{len(short)} pulls of machines that stayed did not finish: {named}{more}"


def _why(node: NodeResult, model: str) -> str:
    return node.unfinished.get(model) or "it never began"
