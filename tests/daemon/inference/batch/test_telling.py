"""Text is made and sent while the next step computes: in order, whole, one step behind at most."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.inference.batch.telling import Said, Teller, Told, settled
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.sampling_options import Sampling

WAIT_S = 30.0

HELD_UP_S = 0.05
"""In so long somebody who is not held up would long have gone on."""


class SlowOutbox:
    """Takes frames once it may."""

    def __init__(self) -> None:
        self.frames: list[Told] = []
        self.asked = threading.Event()
        self.may = threading.Event()

    def send(self, kind: str, number: int, fields: dict[str, Any]) -> None:
        self.send_all([(kind, number, fields)])

    def send_all(self, frames: Iterable[Told]) -> None:
        self.asked.set()
        assert self.may.wait(WAIT_S)
        self.frames += frames


def step(number: int) -> list[Said]:
    return [("prefilled", number, {"tokens": 1})]


def test_frames_of_steps_are_sent_in_order() -> None:
    outbox = SlowOutbox()
    outbox.may.set()
    teller = Teller(outbox)
    for number in range(50):
        teller.tell(step(number))
    teller.wait()
    assert [number for _, number, _ in outbox.frames] == list(range(50))


def test_a_pool_that_does_not_read_holds_the_next_step_up() -> None:
    outbox = SlowOutbox()
    teller, told = Teller(outbox), threading.Event()
    teller.tell(step(1))

    def go_on() -> None:
        teller.tell(step(2))
        told.set()

    second = threading.Thread(target=go_on)
    second.start()
    assert outbox.asked.wait(WAIT_S)
    assert not told.wait(HELD_UP_S)
    outbox.may.set()
    second.join(WAIT_S)
    assert told.is_set()
    teller.wait()
    assert [number for _, number, _ in outbox.frames] == [1, 2]


@pytest.mark.parametrize("stop", [(), ("e",), ("\N{REPLACEMENT CHARACTER}",)])
def test_text_made_later_is_the_text_made_at_once(
    stop: tuple[str, ...], tiny_model: Path, batching: Any
) -> None:
    drawn = Sampling(temperature=1.5, seed=3)
    request = GenerateRequest(
        prompt_ids=tuple(range(40, 60)), max_tokens=40, sampling=drawn, logprobs=1, stop=stop
    )
    at_once, later = batching(tiny_model), batching(tiny_model)
    number = at_once.ask(request)
    at_once.finish()
    later.ask(request)
    said: list[Said] = later.engine.advance()
    while not later.engine.idle:
        said += later.engine.advance()
    frames = [(kind, fields) for kind, _, fields in settled(said) if kind == "text"]
    expected = [(kind, fields) for kind, fields in at_once.told[number] if kind == "text"]
    assert expected
    assert frames == expected
