"""What the pool counts, as Prometheus reads it."""

from __future__ import annotations

from dreamer.daemon.inference.channel import Done
from dreamer.daemon.inference.metrics import pool_metrics
from dreamer.daemon.inference.pool.statistics import Durations, Mean, Rate, Tally
from dreamer.daemon.metrics import render
from dreamer.daemon.surfaces.inference import (
    GpuInfo,
    ModelStatistics,
    PoolInfo,
    WorkerStatistics,
)

WORKER = WorkerStatistics(77, "cuda:0", 1000, 2000, 5, 1, 600.0, 90.0)
MODEL = ModelStatistics(
    *("ab" * 32, "tiny", "decoder", (WORKER,), 1000, False, None, 3, 1, 5, 0, 10, 0, 20),
    *(0.5, 0.25, 0.75, 1, 0.9, 0, 2048),
)
GPU = GpuInfo("cuda:0", "NVIDIA H200", 150_000, 50_000, 0.5, 1)
LABEL = '{model="tiny",id="abababab"'


def lines(durations: Durations, tally: Tally) -> list[str]:
    pool = PoolInfo(3, 200, 1, 70, (GPU,))
    return render(pool_metrics(pool, [MODEL], {MODEL.manifest_id: tally}, durations)).splitlines()


def test_counts_gauges_and_histograms_are_told() -> None:
    tally, durations = Tally(requests=5, answered=3, failures=1, refused=1), Durations()
    tally.generated(Done("stop", 10, 20, 8, 0.25, 19, 0.75, cached_tokens=2))
    durations.first_token.add(0.03)
    durations.first_token.add(99.0)
    said = lines(durations, tally)
    assert f'dreamer_inference_requests_total{LABEL},outcome="failed"}} 1' in said
    assert f'dreamer_inference_requests_total{LABEL},outcome="ok"}} 3' in said
    assert f"dreamer_inference_generation_tokens_total{LABEL}}} 20" in said
    assert f"dreamer_inference_cached_prompt_tokens_total{LABEL}}} 2" in said
    assert f"dreamer_inference_requests_waiting{LABEL}}} 3" in said
    of_worker = f'{LABEL},pid="77",device="cuda:0"}}'
    assert f"dreamer_inference_worker_gpu_memory_bytes{of_worker} 2000" in said
    assert 'dreamer_inference_gpu_busy_ratio{device="cuda:0",name="NVIDIA H200"} 0.5' in said
    bucket = "dreamer_inference_time_to_first_token_seconds_bucket"
    assert f'{bucket}{{le="0.025"}} 0' in said
    assert f'{bucket}{{le="0.05"}} 1' in said
    assert f'{bucket}{{le="+Inf"}} 2' in said


def test_no_two_samples_have_the_same_labels() -> None:
    said = [line.rpartition(" ")[0] for line in lines(Durations(), Tally()) if line[0] != "#"]
    assert len(said) == len(set(said))


def test_rates_follow_what_is_and_forget_what_was() -> None:
    rate = Rate()
    assert rate.per_s == 0
    rate.add(100, 1.0)
    assert rate.per_s == 100
    rate.add(0, 5.0)
    rate.add(5, 0.0)
    assert rate.per_s == 100
    for _ in range(30):
        rate.add(10, 1.0)
    assert 10 <= rate.per_s < 10.2
    mean = Mean()
    mean.add(2.0)
    assert mean.seconds == 2
