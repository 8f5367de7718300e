"""Tensors on a node that nobody is linked to: run here without looking for others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.inference.tensors import Inferred, InferRequest, Tensor
from dreamer.daemon.surfaces.inference import RunOptions
from dreamer.protocol.errors import InputError, LocalError, RemoteError
from dreamer.protocol.ids import ManifestId

REQUEST = InferRequest((Tensor("x", "FP32", (1, 1), bytes(4)),))
MODEL: Any = SimpleNamespace(name="tiny", size_bytes=1000, manifest_id=ManifestId(b"m" * 32))


def node(offloading: Any, *says: Inferred | Exception, links: tuple[Any, ...] = ()) -> Any:
    """Return a node that holds the model; its graph gives, or fails with, these in turn."""
    here = offloading.Here(offloading.Script())
    said = iter(says)

    async def infer(*_: object) -> Inferred:
        one = next(said)
        if isinstance(one, Exception):
            raise one
        return one

    here.infer = infer
    return offloading.Offloading(here=here, session=offloading.Session(*links))


async def run(made: Any, request: InferRequest = REQUEST) -> Any:
    try:
        return await made.runs.infer(made.session, MODEL, request, RunOptions())
    finally:
        await made.tasks.close()


@pytest.mark.parametrize(
    ("prefer", "asking", "linked", "alone"),
    [
        ("auto", "auto", False, True),
        ("local", "auto", False, True),
        ("local", "auto", True, True),
        ("auto", "never", True, True),
        ("auto", "on-request", True, True),
        ("auto", "auto", True, False),
        # These look for others even where nobody is linked yet.
        ("fastest", "auto", False, False),
        ("peer", "auto", False, False),
    ],
)
async def test_node_is_alone_where_nobody_could_be_asked(
    offloading, prefer, asking, linked, alone
) -> None:
    links = [offloading.link_to(offloading.NEAR, "near", 0.01)] if linked else []
    made = offloading.Offloading(
        here=offloading.Script(), asking=asking, session=offloading.Session(*links)
    )
    found = made.runs.scout.alone(made.session, MODEL, prefer)
    assert (found is not None) == alone
    await made.tasks.close()


async def test_node_without_the_model_is_not_alone(offloading) -> None:
    made = offloading.Offloading(session=offloading.Session())
    assert made.runs.scout.alone(made.session, MODEL, "auto") is None


async def test_answer_of_a_node_alone_is_counted_and_says_who_gave_it(offloading) -> None:
    made = node(offloading, Inferred((), compute_s=0.5))
    ran = await run(made)
    assert (ran.answer.compute_s, ran.started.where, ran.started.node_name) == (0.5, "local", "us")
    assert (ran.started.node, made.runs.counts.asked) == (offloading.US.hex(), {"local": 1})
    assert made.runs.counts.real_total_s.keys() == {"local"}


async def test_wrong_tensors_are_refused_at_once(offloading) -> None:
    made = node(offloading, InputError("no such input"))
    with pytest.raises(InputError, match="no such input"):
        await run(made)
    assert made.runs.counts.failed == {("local", "bad_input"): 1}


async def test_tensors_that_no_graph_could_answer_count_for_no_node(offloading) -> None:
    made = node(offloading)
    twice = InferRequest(REQUEST.inputs * 2)
    with pytest.raises(InputError, match="given twice"):
        await run(made, twice)
    assert (made.runs.counts.asked, made.runs.counts.failed) == ({}, {})


async def test_node_alone_that_fails_looks_for_others_and_tells_its_own_error(offloading) -> None:
    made = node(offloading, LocalError("the worker is lost"))
    with pytest.raises(LocalError, match="the worker is lost"):
        await run(made)
    assert made.runs.counts.asked == {"local": 1}


async def test_peer_that_came_up_meanwhile_answers_what_failed_here(offloading) -> None:
    made = node(offloading, RemoteError("its card is gone"))
    near = offloading.link_to(offloading.NEAR, "near", 0.01)

    async def meet(*_: object) -> None:
        made.session.links.links = (near,)
        made.runs.scout._holders[offloading.ROOM, offloading.MODEL_ID] = frozenset([near.peer])

    async def at_peer(link: Any, *_: object) -> Inferred:
        return Inferred((), compute_s=0.25)

    made.runs.scout._meet = meet
    made.runs.tensors.asking[offloading.ROOM] = SimpleNamespace(run=at_peer)
    ran = await run(made)
    assert (ran.answer.compute_s, ran.started.where) == (0.25, "peer")
