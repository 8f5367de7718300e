"""Where a request ends up, and how it goes on when a runner fails: as one unbroken answer."""

from __future__ import annotations

from contextlib import aclosing
from types import SimpleNamespace

import pytest

from dreamer.daemon.inference.requests import GenerateRequest, Started, Text
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.daemon.offload import running
from dreamer.daemon.offload.waiting import UnreadAnswerError
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.errors import (
    BusyError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.offload import Runner

ASKED = GenerateRequest(prompt="hello", max_tokens=8)
GONE = RemoteError("lost the link")


def names(events) -> list[str]:
    return [event.node_name for event in events if isinstance(event, RunStarted)]


def text(events) -> str:
    return "".join(event.text for event in events if isinstance(event, RunText))


@pytest.fixture
def make(offloading):
    """``make(near=…, far=…, here=…)``: a node and its runners, by what they say."""

    def made(here=None, **options):
        scripts = {
            name: offloading.Script(*options.pop(name)) if name in options else offloading.Script()
            for name in ("near", "far")
        }
        peers = offloading.Peers(**scripts)
        here = offloading.Script(*here) if here is not None else None
        return offloading.Offloading(peers, here, **options)

    return made


async def test_a_model_that_is_here_runs_here(make, offloading) -> None:
    node = make(here=offloading.whole("here"))
    started, *said, ended = await node.run(ASKED)
    assert started == RunStarted(
        "local", offloading.US.hex(), "us", offloading.MODEL_ID.hex(), prompt_tokens=5
    )
    assert said == [RunText(one, 1) for one in "here"]
    assert (ended.finish_reason, ended.completion_tokens) == ("stop", 4)
    assert node.peers.asked == []


@pytest.mark.parametrize(("prefer", "held"), [("auto", False), ("peer", False), ("peer", True)])
async def test_the_nearest_peer_answers(make, offloading, prefer, held) -> None:
    here = offloading.whole("here") if held else None
    node = make(here=here, near=offloading.whole("near"), far=offloading.whole("far"))
    events = await node.run(ASKED, prefer)
    assert (names(events), text(events)) == (["near"], "near")
    assert events[0].where == "peer"
    assert isinstance(events[-1], RunEnded)


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("lost the link"),
        LocalError("it runs as many requests as it takes"),
        BusyError("200 wait"),
        NoMatchError("evicted"),
        ForbiddenError("it does not run models for others"),
    ],
)
async def test_a_peer_that_can_not_is_passed_over(make, offloading, error) -> None:
    node = make(near=[error], far=offloading.whole("far"))
    events = await node.run(ASKED)
    assert (names(events), text(events)) == (["far"], "far")
    assert node.runs.counts.handovers == 0


async def test_a_request_that_is_wrong_everywhere_is_not_tried_elsewhere(make, offloading) -> None:
    node = make(near=[InputError("the prompt does not fit")], far=offloading.whole("far"))
    with pytest.raises(InputError):
        await node.run(ASKED)
    assert node.peers.asked == ["near"]


async def test_answer_that_is_read_too_slowly_is_not_made_once_more(make, offloading) -> None:
    slow = [Started("m", 5), *offloading.tokens("ab"), UnreadAnswerError("read faster")]
    node = make(near=slow, far=offloading.whole("cd"))
    with pytest.raises(UnreadAnswerError):
        await node.run(ASKED)
    assert node.peers.asked == ["near"]


async def test_when_no_peer_can_the_last_reason_is_told(make) -> None:
    with pytest.raises(BusyError, match="busy"):
        await make(near=[GONE], far=[BusyError("busy", 3.0)]).run(ASKED)


@pytest.mark.parametrize("told", [0, 1, 3, 7])
async def test_an_answer_goes_on_elsewhere_with_nothing_lost_or_doubled(
    make, offloading, told
) -> None:
    answer = "unbroken"
    node = make(
        near=[Started("m", 5), *offloading.tokens(answer[:told]), GONE],
        far=offloading.whole(answer[told:]),
    )
    events = await node.run(ASKED)
    assert text(events) == answer
    assert sum(event.tokens for event in events if isinstance(event, RunText)) == len(answer)
    assert names(events) == (["near", "far"] if told else ["far"])
    (second,) = node.peers.scripts["far"].asked
    assert second.token_ids_so_far == tuple(map(ord, answer[:told]))
    assert node.runs.counts.handovers == (1 if told else 0)


async def test_an_answer_that_lost_only_its_end_makes_its_last_piece_again(
    make, offloading
) -> None:
    answer = "complete"
    node = make(
        near=[*offloading.tokens(answer), GONE], far=offloading.whole(answer[-1:], "length")
    )
    events = await node.run(ASKED)
    assert text(events) == answer
    assert events[-1].finish_reason == "length"
    (second,) = node.peers.scripts["far"].asked
    assert second.token_ids_so_far == tuple(map(ord, answer[:-1]))


async def test_text_that_was_held_back_is_told_once(make, offloading) -> None:
    # The first runner holds "b" back, for it may begin a stop string; the second tells it.
    node = make(
        near=[Text("a", (1,)), GONE],
        far=[Text("bc", (2, 3)), Text("d", ()), *offloading.whole("")[1:]],
    )
    assert text(await node.run(ASKED)) == "abcd"


async def test_a_tail_whose_end_is_lost_is_not_told_twice(make, offloading) -> None:
    node = make(
        near=[Text("a", (1,)), Text("!", ()), GONE], far=[Text("!", ()), offloading.whole("")[-1]]
    )
    assert text(await node.run(ASKED)) == "a!"


async def test_a_peer_that_fails_mid_way_is_left_for_this_node(make, offloading) -> None:
    node = make(here=offloading.whole("roken"), near=[*offloading.tokens("b"), GONE])
    node.here.known = Runner(offloading.US, 0.0, load_s=60.0)
    await node.meet()
    events = await node.run(ASKED)
    assert (names(events), text(events)) == (["near", "us"], "broken")


async def test_this_node_failing_mid_way_is_left_for_a_peer(make, offloading) -> None:
    node = make(
        here=[*offloading.tokens("b"), LocalError("no memory")], near=offloading.whole("roken")
    )
    events = await node.run(ASKED)
    assert (names(events), text(events)) == (["us", "near"], "broken")


async def test_asked_to_run_here_only_it_goes_nowhere_else(make, offloading) -> None:
    node = make(here=[*offloading.tokens("b"), LocalError("no memory")], near=[])
    with pytest.raises(LocalError, match="no memory"):
        await node.run(ASKED, "local")
    assert node.peers.asked == []


async def test_when_all_fail_mid_way_the_last_reason_is_told(make, offloading) -> None:
    node = make(near=[*offloading.tokens("a"), GONE], far=[RemoteError("its worker died")])
    with pytest.raises(RemoteError, match="worker died"):
        await node.run(ASKED)
    assert text(node.heard) == "a"


async def test_a_peer_slow_with_its_first_token_is_left_for_another(make, offloading) -> None:
    node = make(near=[None], far=offloading.whole("far"), timeout_s=0.05)
    assert names(await node.run(ASKED)) == ["far"]
    assert node.peers.scripts["near"].stopped == 1


async def test_the_last_that_could_has_a_bound_too(make, monkeypatch) -> None:
    monkeypatch.setattr(running, "OFFLOAD_LAST_TIMEOUT_S", 0.05)
    node = make(near=[None], far=[None], timeout_s=0.01)
    with pytest.raises(RemoteError, match="sent no token"):
        await node.run(ASKED)


async def test_member_whose_link_comes_back_goes_on_with_its_answer(make, offloading) -> None:
    node = make(near=[*offloading.tokens("br"), GONE])
    links = node.session._links
    links.pop(offloading.FAR)

    class Returning(offloading.Script):
        """The line breaks in the middle of the answer, and comes back."""

        async def play(self, request):
            self.asked.append(request)
            if len(self.asked) == 1:
                for said in offloading.tokens("br"):
                    yield said
                links[offloading.NEAR].number += 100
                raise GONE
            for said in offloading.whole("oken"):
                yield said

    node.peers.scripts["near"] = Returning()
    node.peers.scripts["far"] = offloading.Script(GONE)
    events = await node.run(ASKED, "peer")
    assert (names(events)[0], names(events)[-1], text(events)) == ("near", "near", "broken")
    assert node.runs.counts.handovers >= 1


async def test_the_last_that_could_is_given_its_time(make, offloading) -> None:
    node = make(near=[GONE], far=offloading.whole("far"), timeout_s=0.0001)
    assert names(await node.run(ASKED)) == ["far"]


async def test_a_request_that_draws_is_given_a_seed_so_that_it_can_go_on(make, offloading) -> None:
    node = make(near=[*offloading.tokens("a"), GONE], far=offloading.whole("b"))
    asked = GenerateRequest(prompt="hi", max_tokens=8, sampling=Sampling(temperature=1.0))
    await node.run(asked)
    first, second = (node.peers.scripts[one].asked[0] for one in ("near", "far"))
    assert first.sampling.seed is not None
    assert first.sampling == second.sampling


async def test_racing_keeps_the_first_to_answer_and_ends_the_other(make, offloading) -> None:
    node = make(near=[None], far=offloading.whole("far"))
    events = await node.run(ASKED, "fastest")
    assert (names(events), text(events)) == (["far"], "far")
    assert node.peers.scripts["near"].stopped == 1
    assert (node.runs.counts.races, node.runs.counts.race_losers) == (1, 1)


async def test_of_two_that_answer_at_once_one_is_ended_at_once(make, offloading) -> None:
    node = make(near=[*offloading.tokens("near"), None], far=[*offloading.tokens("far"), None])
    events = node.begin(ASKED, "fastest")
    assert isinstance(await anext(events), RunStarted)
    stopped = [node.peers.scripts[one].stopped for one in ("near", "far")]
    assert stopped == [0, 1]
    await events.aclose()
    await node.tasks.close()


async def test_a_race_that_one_loses_by_failing_is_won_by_the_other(make, offloading) -> None:
    node = make(near=[GONE], far=offloading.whole("far"))
    assert text(await node.run(ASKED, "fastest")) == "far"


async def test_a_winner_that_fails_is_followed_by_this_node(make, offloading) -> None:
    node = make(here=offloading.whole("roken"), near=[*offloading.tokens("b"), GONE], far=[None])
    node.here.known = Runner(offloading.US, 0.0, load_s=60.0)
    assert text(await node.run(ASKED, "fastest")) == "broken"


async def test_closing_a_race_lets_all_its_runners_go(make, offloading) -> None:
    node = make(near=[*offloading.tokens("a"), None], far=[None])
    events = node.begin(ASKED, "fastest")
    assert isinstance(await anext(events), RunStarted)
    await events.aclose()
    stopped = [node.peers.scripts[one].stopped for one in ("near", "far")]
    assert stopped == [1, 1]
    await node.tasks.close()


@pytest.mark.parametrize(
    ("asking", "prefer", "asked"),
    [
        ("never", "auto", False),
        ("never", "peer", False),
        ("never", "fastest", False),
        ("on-request", "auto", False),
        ("on-request", "peer", True),
        ("on-request", "fastest", True),
        ("auto", "auto", True),
        ("auto", "local", False),
    ],
)
async def test_a_prompt_leaves_the_node_only_as_its_owner_allows(
    make, offloading, asking, prefer, asked
) -> None:
    node = make(near=offloading.whole("near"), far=offloading.whole("far"), asking=asking)
    if asked:
        assert names(await node.run(ASKED, prefer))
    else:
        with pytest.raises(NoMatchError, match="pull it"):
            await node.run(ASKED, prefer)
        assert node.peers.asked == []


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        (None, True),
        ({"member": ("worker",)}, True),
        ({"member": ("admin",)}, False),
        ({"admin": ("worker",)}, False),
        ({}, False),
    ],
)
async def test_a_prompt_leaves_the_node_only_as_the_room_allows(
    make, offloading, rules, asked
) -> None:
    links = offloading.link_to(offloading.NEAR, "near", 0.01)
    roles = {offloading.NEAR: ("worker",)}
    session = offloading.Session(links, rules=rules, roles=roles)
    node = make(near=offloading.whole("near"), session=session)
    if asked:
        assert names(await node.run(ASKED)) == ["near"]
    else:
        with pytest.raises(ForbiddenError, match="room's rules"):
            await node.run(ASKED)
        assert node.peers.asked == []


async def test_peers_that_do_not_serve_are_not_asked(make, offloading) -> None:
    link = offloading.link_to(offloading.NEAR, "near", 0.1, serves=False)
    node = make(near=offloading.whole("near"), session=offloading.Session(link))
    with pytest.raises(RemoteError, match="serve_peers = true"):
        await node.run(ASKED)
    assert node.peers.asked == []


@pytest.mark.parametrize("count", [0, 10**6])
async def test_an_impossible_request_is_refused_before_it_starts(make, offloading, count) -> None:
    node = make(here=offloading.whole("x"))
    with pytest.raises(InputError):
        await node.run(GenerateRequest(prompt="hello", max_tokens=count))
    assert node.here.script.asked == []


async def test_estimates_and_what_really_happened_are_counted(make, offloading) -> None:
    node = make(near=offloading.whole("near"))
    async with aclosing(node.begin(ASKED)) as events:
        async for event in events:
            # As those who answer a client do: nothing is asked after the end.
            if isinstance(event, RunEnded):
                break
    counted = {metric.name: metric.samples for metric in node.runs.counts.metrics()}
    values = SimpleNamespace(**{name: dict_of(samples) for name, samples in counted.items()})
    assert values.dreamer_offload_answers_total["peer"] == 1
    assert values.dreamer_offload_estimated_first_token_seconds_total["peer"] > 0
    assert values.dreamer_offload_first_token_seconds_total["peer"] > 0
    assert values.dreamer_offload_seconds_total["peer"] > 0
    assert values.dreamer_offload_answers_total["local"] == 0


def dict_of(samples) -> dict[str, float]:
    return {labels.get("where", ""): value for labels, value in samples}
