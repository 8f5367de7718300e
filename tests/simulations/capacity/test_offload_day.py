"""A day of requests: where they run, who refuses, and that nothing is lost on the way."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dreamer.protocol.offload_limits import OFFLOAD_REQUESTS_MAX_PER_LINK
from dreamer.simulations.capacity import study
from dreamer.simulations.capacity.day import run_day
from dreamer.simulations.capacity.offload import OffloadDay, Request
from dreamer.simulations.capacity.offload_spec import AskedModel, Machines, Offload, Spread
from dreamer.simulations.scenario import loader
from dreamer.simulations.scenario.tables import read

SMALL = AskedModel("small", 1.0, 1.0, 1000.0, 100.0, on_laptops=True)
LARGE = AskedModel("large", 10.0, 1.0, 1000.0, 50.0)


def _offload(**changed: object) -> Offload:
    spec = Offload(
        models=(SMALL, LARGE),
        laptops=Machines(20, load_gb_s=1.0),
        gpus=Machines(3, load_gb_s=5.0),
        prompt=Spread(200.0),
        answer=Spread(100.0),
        requests_by_hour=(30.0, 60.0),
        rtt_here_s=0.01,
    )
    return replace(spec, **changed)


def _run(spec: Offload, seed: int = 1) -> tuple[OffloadDay, list[Request]]:
    day = OffloadDay(spec, seed)
    return day, day.run()


def test_every_request_ends_and_no_work_is_lost() -> None:
    day, requests = _run(_offload())
    assert len(requests) > 1000
    assert all(one.ending is not None for one in requests)
    assert all(gpu.pool.pending == 0 for gpu in day.gpus)
    assert not any(mine for gpu in day.gpus for mine in gpu.under_way.values())
    worked_s = math.fsum(
        one.prompt_tokens / 1000 + (one.answer_tokens - 1) / 50
        for one in requests
        if not one.local and one.ending == "answered" and one.asked_s < 7000
    )
    busy_s = math.fsum(sum(gpu.busy_s) for gpu in day.gpus)
    # Whoever gives up does so before the first word; what began before the end was counted to it.
    assert busy_s == pytest.approx(worked_s, rel=0.1)
    assert all(hour <= 3600 for gpu in day.gpus for hour in gpu.busy_s)


def test_model_on_the_laptop_is_run_there_and_others_on_gpu_nodes() -> None:
    _, requests = _run(_offload())
    assert all((one.node == -1) is (one.model is SMALL) for one in requests)


def test_requests_follow_the_hours() -> None:
    _, requests = _run(_offload(requests_by_hour=(0.0, 90.0, 30.0)))
    by_hour = [sum(int(one.asked_s // 3600) == hour for one in requests) for hour in range(3)]
    assert by_hour[0] == 0
    assert by_hour[1:] == [pytest.approx(1800, rel=0.1), pytest.approx(600, rel=0.15)]


def test_nearest_node_is_asked_and_the_next_one_when_it_refuses() -> None:
    spec = _offload(
        models=(LARGE,),
        laptops=Machines(1, load_gb_s=1.0),
        requests_by_hour=(8000.0,),
        patience_s=1e6,
        rtt_spread=0.9,
    )
    _, requests = _run(spec)
    first_refused = next(number for number, one in enumerate(requests) if one.refusals)
    (nearest,) = {one.node for one in requests[:first_refused]}
    # A laptop has so many requests under way on one link at most.
    assert first_refused >= OFFLOAD_REQUESTS_MAX_PER_LINK
    (next_one,) = {one.node for one in requests if one.refusals == 1}
    (last,) = {one.node for one in requests if one.refusals == 2}
    assert {nearest, next_one, last} == {0, 1, 2}
    refused = [one for one in requests if one.ending == "refused"]
    assert refused
    assert all(one.refusals == 3 and one.node == -1 for one in refused)


def test_whoever_sees_no_word_gives_up() -> None:
    spec = _offload(gpus=Machines(1, load_gb_s=0.1), patience_s=5.0)
    _, requests = _run(spec)
    gave_up = [one for one in requests if one.ending == "gave up"]
    assert gave_up
    assert all(one.ended_s == pytest.approx(one.asked_s + 5.0) for one in gave_up)
    assert all(one.first_token_s is None for one in gave_up)
    assert all(
        one.first_token_s is not None and one.first_token_s <= 5.0
        for one in requests
        if one.ending == "answered"
    )


def test_one_laptop_and_one_gpu_wait_as_m_g_1_says() -> None:
    spec = _offload(
        models=(LARGE,),
        laptops=Machines(200, load_gb_s=1.0),
        gpus=Machines(1, load_gb_s=1e6),
        prompt=Spread(50.0, sigma=0.0),
        answer=Spread(50.0, sigma=0.0),
        requests_by_hour=(10.0,) * 3,
        rtt_here_s=0.0,
        patience_s=1e6,
    )
    _, requests = _run(spec)
    service_s = 50 / 1000 + 49 / 50
    load = 200 * 10 / 3600 * service_s
    waits = [one.first_token_s - 0.05 for one in requests if one.first_token_s is not None]
    expected = load * service_s / (2 * (1 - load))
    assert math.fsum(waits) / len(waits) == pytest.approx(expected, rel=0.15)


def test_one_more_gpu_node_helps_and_one_less_hurts() -> None:
    result = run_day(_offload(requests_by_hour=(150.0,)), 1)
    assert [variant.gpus for variant in result.variants] == [2, 3, 4]
    p95s = [variant.day.offloaded.p95_s for variant in result.variants]
    used = [variant.utilisation for variant in result.variants]
    assert p95s == sorted(p95s, reverse=True)
    assert used == sorted(used, reverse=True)


def test_same_seed_gives_the_same_day() -> None:
    spec = _offload()
    assert run_day(spec, 1, beside=()).trace_hash == run_day(spec, 1, beside=()).trace_hash
    assert run_day(spec, 2, beside=()).trace_hash != run_day(spec, 1, beside=()).trace_hash


def test_the_committed_scenario_is_read(tmp_path: Path) -> None:
    table = loader.parse(loader.find("offload"))
    spec = read(Offload, table["offload"], "offload")
    assert (spec.laptops.count, spec.gpus.count, len(spec.requests_by_hour)) == (200, 8, 24)
    few = replace(spec, laptops=replace(spec.laptops, count=4), gpus=replace(spec.gpus, count=1))
    result = study.run_offload(few, 1)
    assert json.loads(json.dumps(asdict(result)))["trace_hash"] == result.trace_hash
    assert [table.row_count for table in study.offload_tables(result)] == [24, 2]
    study.write_offload(result, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "offload.json",
        "offload-latency.svg",
        "offload-latency.png",
        "offload-load.svg",
        "offload-load.png",
    }
