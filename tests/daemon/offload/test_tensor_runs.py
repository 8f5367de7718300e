"""Tensors and embeddings on several runners: who is asked, and what a failure costs."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.inference.tensors import (
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
)
from dreamer.daemon.offload import tensor_runs
from dreamer.daemon.offload.candidates import Candidates
from dreamer.daemon.offload.counts import OffloadCounts
from dreamer.daemon.offload.tensor_runs import TensorRuns
from dreamer.daemon.surfaces.inference import Ran, RunOptions
from dreamer.protocol.errors import (
    BusyError,
    DreamerError,
    ForbiddenError,
    InputError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload import Runner

TEXTS = tuple(f"{place:03}" for place in range(60))


class Doubler:
    """A runner that embeds a text of digits as their number, or fails as it is told."""

    def __init__(self, *errors: DreamerError, rate: float = 100.0) -> None:
        self.errors = list(errors)
        self.rate = rate
        self.asked: list[Any] = []

    async def run(self, request: Any) -> Any:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if isinstance(request, InferRequest):
            (one,) = request.inputs
            doubled = bytes(2 * value for value in bytes(one.data))
            return Inferred((Tensor("y", one.datatype, one.shape, doubled),), compute_s=0.5)
        data = struct.pack(f"<{len(request.texts)}f", *(float(text) for text in request.texts))
        vectors = Tensor("embedding", "FP32", (len(request.texts), 1), data)
        return Embedded(vectors, len(request.texts))

    @property
    def texts(self) -> list[str]:
        return [text for one in self.asked for text in one.texts]


class Offload:
    """This node and two peers; None where a runner is not."""

    def __init__(
        self, offloading: Any, here: Doubler | None, near: Doubler | None, far: Doubler | None
    ) -> None:
        self.names = offloading
        self.runners = {offloading.US: here, offloading.NEAR: near, offloading.FAR: far}
        self.links = {
            node: offloading.link_to(node, name, 0.001)
            for node, name in ((offloading.NEAR, "near"), (offloading.FAR, "far"))
        }
        self.counts = OffloadCounts()
        scout: Any = SimpleNamespace(asking="auto", find=self.find, alone=self.alone)
        local: Any = SimpleNamespace(infer=self.at_home, embed=self.at_home)
        asking: Any = SimpleNamespace(run=self.at_peer)
        self.runs = TensorRuns(
            offloading.US, "us", local, scout, self.counts, 0.05, {offloading.ROOM: asking}
        )

    def alone(self, session: Any, model: Any, prefer: str) -> None:
        return None

    async def find(
        self, session: Any, model: Any, prefer: str, tried: frozenset[NodeId]
    ) -> Candidates:
        def known(node: NodeId) -> Runner | None:
            runner = self.runners[node]
            if runner is None or node in tried:
                return None
            return Runner(node, 0.001, loaded=True, prefill_tokens_s=runner.rate)

        here = None if prefer == "peer" else known(self.names.US)
        peers = [] if prefer == "local" else [known(node) for node in self.links]
        return Candidates(here, tuple(one for one in peers if one), dict(self.links))

    async def at_home(self, room: Any, manifest_id: Any, request: Any, keep_alive_s: Any) -> Any:
        here = self.runners[self.names.US]
        assert here is not None
        return await here.run(request)

    async def at_peer(self, link: Any, manifest_id: Any, request: Any, patience_s: Any) -> Any:
        peer = self.runners[link.peer]
        assert peer is not None
        async with asyncio.timeout(patience_s):
            return await peer.run(request)

    async def run(self, request: Any, prefer: Any = "auto") -> Ran:
        links = SimpleNamespace(link=self.links.get)
        session: Any = SimpleNamespace(room_id=self.names.ROOM, links=links)
        model: Any = SimpleNamespace(manifest_id=self.names.MODEL_ID, name="m", size_bytes=1)
        async with asyncio.timeout(10):
            return await self.runs.run(session, model, request, RunOptions(prefer))


Make = Callable[..., Offload]


@pytest.fixture
def make(offloading: Any) -> Make:
    def made(
        here: Doubler | None = None, near: Doubler | None = None, far: Doubler | None = None
    ) -> Offload:
        return Offload(offloading, here, near, far)

    return made


def numbers(ran: Ran) -> list[float]:
    assert isinstance(ran.answer, Embedded)
    return list(struct.unpack(f"<{ran.answer.vectors.shape[0]}f", ran.answer.vectors.data))


ALL = [float(text) for text in TEXTS]


async def test_batch_is_shared_out_by_rates_and_comes_back_in_order(make: Make) -> None:
    here, near, far = Doubler(rate=10), Doubler(rate=20), Doubler(rate=30)
    offload = make(here, near, far)
    ran = await offload.run(EmbedRequest(TEXTS))
    assert numbers(ran) == ALL
    assert [len(one.texts) for one in (here, near, far)] == [10, 20, 30]
    assert ran.started.node_name == "far"
    assert isinstance(ran.answer, Embedded)
    assert ran.answer.prompt_tokens == 60
    assert offload.counts.spreads == 1


async def test_what_a_lost_peer_was_to_do_is_done_elsewhere(make: Make) -> None:
    here, near, far = Doubler(), Doubler(RemoteError("gone")), Doubler()
    offload = make(here, near, far)
    assert numbers(await offload.run(EmbedRequest(TEXTS))) == ALL
    # Nothing that was done is done twice, and the lost one isn't asked again.
    assert len(near.asked) == 1
    assert len(here.texts) + len(far.texts) == 60
    assert offload.counts.failed["peer", "remote"] == 1


async def test_peer_whose_link_broke_and_came_back_does_its_share_after_all(make: Make) -> None:
    class Relinked(Doubler):
        async def run(self, request: Any) -> Any:
            if not self.asked:
                near = offload.names.NEAR
                self.errors.append(RemoteError("lost the link"))
                offload.links[near] = replace(offload.links[near], number=99)
            return await super().run(request)

    near = Relinked()
    offload = make(None, near)
    assert numbers(await offload.run(EmbedRequest(TEXTS))) == ALL
    assert len(near.asked) == 2


@pytest.mark.parametrize("error", [BusyError("full"), NoMatchError("gone"), ForbiddenError("no")])
async def test_peer_that_can_not_is_left_for_the_next(make: Make, error: DreamerError) -> None:
    near, far = Doubler(error), Doubler()
    ran = await make(None, near, far).run(EmbedRequest(TEXTS[:2]))
    assert numbers(ran) == ALL[:2]
    assert ran.started.where == "peer"
    assert ran.started.node_name == "far"


async def test_all_lost_is_told_by_the_last_error(make: Make) -> None:
    peers = Doubler(RemoteError("first")), Doubler(RemoteError("second"))
    with pytest.raises(RemoteError, match=r"first|second"):
        await make(None, *peers).run(EmbedRequest(TEXTS))


async def test_wrong_request_is_told_once_and_in_its_own_terms(make: Make) -> None:
    near = Doubler(InputError("text 3 of my part"), InputError("text 33 is too long"))
    far = Doubler()
    with pytest.raises(InputError, match="text 33"):
        await make(None, near, far).run(EmbedRequest(TEXTS))
    assert near.asked[1].texts == TEXTS


async def test_few_texts_stay_together(make: Make) -> None:
    here, near = Doubler(), Doubler()
    ran = await make(here, near).run(EmbedRequest(TEXTS[:7]))
    assert ran.started.where == "local"
    assert not near.asked


async def test_nothing_leaves_if_it_is_to_stay(make: Make) -> None:
    here, near = Doubler(), Doubler(rate=1e9)
    ran = await make(here, near).run(EmbedRequest(TEXTS), "local")
    assert ran.started.where == "local"
    assert not near.asked


async def test_nothing_stays_if_a_peer_is_to_run_it(make: Make) -> None:
    here, near, far = Doubler(), Doubler(), Doubler()
    assert numbers(await make(here, near, far).run(EmbedRequest(TEXTS), "peer")) == ALL
    assert not here.asked
    assert near.asked
    assert far.asked


ROWS = Tensor("x", "UINT8", (40, 2), bytes(range(80)))


@pytest.mark.parametrize(("apart", "runners"), [(True, 2), (False, 1)])
async def test_rows_are_shared_out_only_if_they_are_apart(
    make: Make, apart: bool, runners: int
) -> None:
    peers = Doubler(), Doubler()
    ran = await make(None, *peers).run(InferRequest((ROWS,), rows_apart=apart))
    assert isinstance(ran.answer, Inferred)
    (output,) = ran.answer.outputs
    assert (output.name, output.shape) == ("y", (40, 2))
    assert bytes(output.data) == bytes(2 * value for value in range(80))
    assert sum(len(one.asked) for one in peers) == runners


async def test_peer_that_never_ends_is_left_for_another(make: Make) -> None:
    class Endless(Doubler):
        async def run(self, request: Any) -> Any:
            self.asked.append(request)
            await asyncio.Event().wait()

    endless, far = Endless(rate=1e6), Doubler(rate=1e6)
    offload = make(None, endless, far)
    assert numbers(await offload.run(EmbedRequest(TEXTS))) == ALL
    assert numbers(await offload.run(EmbedRequest(TEXTS[:2]))) == ALL[:2]
    assert len(endless.asked) >= 1
    assert offload.counts.failed["peer", "remote"] == len(endless.asked)


async def test_last_peer_that_could_be_asked_has_a_bound_too(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Doubler):
        async def run(self, request: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(tensor_runs, "OFFLOAD_LAST_TIMEOUT_S", 0.06)
    with pytest.raises(RemoteError, match="gave no answer"):
        await make(near=Endless()).run(EmbedRequest(TEXTS[:3]))


async def test_bad_tensors_never_leave(make: Make) -> None:
    near = Doubler()
    with pytest.raises(InputError, match="has 3 bytes"):
        await make(None, near).run(InferRequest((Tensor("x", "UINT8", (4,), bytes(3)),)))
    assert not near.asked
