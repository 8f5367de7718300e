"""A day of requests: laptops that run small models themselves and ask GPU nodes for the others.

A model that is held here runs here or not at all: these laptops ask peers only for what they do
not have. Whom they ask is ``protocol.offload.plan``'s to say, by round trips alone, as if nobody
had told of queues and rates yet; then peers are asked one after the other until one takes it, and a
peer takes ``OFFLOAD_REQUESTS_MAX_PER_LINK`` from one laptop at most. Links are taken to be up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal

from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload import Runner, plan
from dreamer.protocol.offload_limits import OFFLOAD_REQUESTS_MAX_PER_LINK
from dreamer.simulations.capacity.offload_spec import AskedModel, Machines, Offload, Spread
from dreamer.simulations.capacity.virtual_pool import Generation, VirtualPool
from dreamer.simulations.engine.clock import Clock
from dreamer.simulations.engine.trace import Trace

HOUR_S = 3600.0
Ending = Literal["answered", "refused", "gave up"]


@dataclass(eq=False)
class Request:
    """One request and what became of it. ``node`` is the GPU node that took it, -1 for here."""

    asked_s: float
    laptop: int
    model: AskedModel
    prompt_tokens: int
    answer_tokens: int
    node: int = -1
    refusals: int = 0
    first_token_s: float | None = None
    ended_s: float | None = None
    ending: Ending | None = None

    @property
    def local(self) -> bool:
        """Whether it ran, or was to run, on the laptop itself."""
        return self.model.on_laptops


@dataclass
class GpuNode:
    """One GPU node: its models, and what it has under way for each laptop."""

    pool: VirtualPool
    busy_s: list[float]
    under_way: dict[int, int] = field(default_factory=dict)

    def offer(self, laptop: int, asked: Generation) -> bool:
        """Take a laptop's request, or say that it or all have too many here."""
        mine = self.under_way.get(laptop, 0)
        if mine >= OFFLOAD_REQUESTS_MAX_PER_LINK or not self.pool.offer(asked):
            return False
        self.under_way[laptop] = mine + 1
        return True

    def over(self, laptop: int) -> None:
        """Take note that a request has ended."""
        self.under_way[laptop] -= 1


class OffloadDay:
    """Laptops and GPU nodes on one clock. ``run`` it; ``requests`` are all, in order."""

    def __init__(self, spec: Offload, seed: int) -> None:
        self.clock = Clock()
        self.trace = Trace()
        self.requests: list[Request] = []
        self._spec = spec
        self.gpus = [self._gpu(spec.gpus) for _ in range(spec.gpus.count)]
        self._laptops = [
            VirtualPool(self.clock, max_models=spec.laptops.max_models)
            for _ in range(spec.laptops.count)
        ]
        self._rtts = [self._round_trips(laptop, seed) for laptop in range(spec.laptops.count)]
        for laptop in range(spec.laptops.count):
            self._draw_requests(laptop, Random(f"{seed}/{laptop}/requests"))

    def run(self) -> list[Request]:
        """Let the day pass, and what it left behind; return all requests as they were asked."""
        self.clock.run()
        return self.requests

    def _gpu(self, machines: Machines) -> GpuNode:
        busy_s = [0.0] * len(self._spec.requests_by_hour)
        on_busy = partial(_count_by_hour, busy_s)
        return GpuNode(VirtualPool(self.clock, on_busy, machines.max_models), busy_s)

    def _round_trips(self, laptop: int, seed: int) -> list[float]:
        spec, rng = self._spec, Random(f"{seed}/{laptop}/rtt")
        return [
            (spec.rtt_here_s if node % spec.sites == laptop % spec.sites else spec.rtt_away_s)
            * (1 + rng.random() * spec.rtt_spread)
            for node in range(spec.gpus.count)
        ]

    def _draw_requests(self, laptop: int, rng: Random) -> None:
        """Draw a Poisson stream whose rate is the hour's."""
        for hour, per_hour in enumerate(self._spec.requests_by_hour):
            asked_s = hour * HOUR_S
            while per_hour > 0:
                asked_s += rng.expovariate(per_hour / HOUR_S)
                if asked_s >= (hour + 1) * HOUR_S:
                    break
                self.clock.at(asked_s, partial(self._ask, self._request(asked_s, laptop, rng)))

    def _request(self, asked_s: float, laptop: int, rng: Random) -> Request:
        models = self._spec.models
        (model,) = rng.choices(models, [one.weight for one in models])
        prompt, answer = _tokens(rng, self._spec.prompt), _tokens(rng, self._spec.answer)
        return Request(asked_s, laptop, model, prompt, answer)

    def _ask(self, request: Request) -> None:
        self.requests.append(request)
        rtts = self._rtts[request.laptop]
        if request.local:
            self._run_here(request)
            return
        runners = [Runner(_id(node), rtt_s) for node, rtt_s in enumerate(rtts)]
        chosen = plan("auto", None, runners, request.model.name)
        peers = [int.from_bytes(choice.node, "big") for choice in chosen.choices]
        self._ask_next(request, peers)

    def _run_here(self, request: Request) -> None:
        generation = self._generation(request, one_way_s=0.0)
        pool = self._laptops[request.laptop]
        if pool.offer(generation):
            self._wait_for(request, lambda: pool.cancel(generation))
        else:
            self._ended(request, "refused")

    def _ask_next(self, request: Request, nodes: list[int]) -> None:
        """Send it to the first of the nodes that are left."""
        one_way_s = self._rtts[request.laptop][nodes[0]] / 2
        self.clock.after(one_way_s, partial(self._asked, request, nodes, one_way_s))

    def _asked(self, request: Request, nodes: list[int], one_way_s: float) -> None:
        gpu = self.gpus[nodes[0]]
        generation = self._generation(request, one_way_s, gpu)
        if gpu.offer(request.laptop, generation):
            request.node = nodes[0]
            self._wait_for(request, lambda: self._stop(gpu, request, generation))
            return
        request.refusals += 1
        refused = (
            partial(self._ask_next, request, nodes[1:])
            if nodes[1:]
            else partial(self._ended, request, "refused")
        )
        self.clock.after(one_way_s, refused)

    def _stop(self, gpu: GpuNode, request: Request, generation: Generation) -> None:
        gpu.pool.cancel(generation)
        gpu.over(request.laptop)

    def _wait_for(self, request: Request, stop: Callable[[], None]) -> None:
        """Have the user give up once patience is at its end."""

        def look() -> None:
            if request.first_token_s is None:
                stop()
                self._ended(request, "gave up")

        self.clock.at(request.asked_s + self._spec.patience_s, look)

    def _generation(
        self, request: Request, one_way_s: float, gpu: GpuNode | None = None
    ) -> Generation:
        model = request.model
        machines = self._spec.laptops if gpu is None else self._spec.gpus
        prefill = model.laptop_prefill_tokens_s if gpu is None else model.gpu_prefill_tokens_s
        decode = model.laptop_decode_tokens_s if gpu is None else model.gpu_decode_tokens_s

        def on_end() -> None:
            if gpu is not None:
                gpu.over(request.laptop)
            self.clock.after(one_way_s, lambda: self._ended(request, "answered"))

        return Generation(
            model=model.name,
            load_s=model.size_gb / machines.load_gb_s,
            # The first token comes out of reading the prompt.
            prefill_s=request.prompt_tokens / prefill,
            decode_s=(request.answer_tokens - 1) / decode,
            on_first_token=lambda: self._first_token_later(request, one_way_s),
            on_end=on_end,
        )

    def _first_token_later(self, request: Request, one_way_s: float) -> None:
        self.clock.after(one_way_s, lambda: self._first_token(request))

    def _first_token(self, request: Request) -> None:
        if request.ending is None:
            request.first_token_s = self.clock.now - request.asked_s

    def _ended(self, request: Request, ending: Ending) -> None:
        if request.ending is not None:
            return
        request.ending, request.ended_s = ending, self.clock.now
        self.trace.add(self.clock.now, request.laptop, _ENDINGS[ending], request.node)


_ENDINGS: dict[Ending, int] = {"answered": 1, "refused": 2, "gave up": 3}


def _tokens(rng: Random, spread: Spread) -> int:
    drawn = rng.lognormvariate(math.log(spread.median), spread.sigma)
    return max(1, min(spread.most, round(drawn)))


def _count_by_hour(busy_s: list[float], begun: float, ended: float) -> None:
    """Add a stretch of work to the hours it lies in; what is after the day is not counted."""
    hour = int(begun // HOUR_S)
    while begun < ended and hour < len(busy_s):
        upto = min(ended, (hour + 1) * HOUR_S)
        busy_s[hour] += upto - begun
        begun, hour = upto, hour + 1


def _id(node: int) -> NodeId:
    return NodeId(node.to_bytes(32, "big"))
