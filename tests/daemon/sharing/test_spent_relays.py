"""A relay whose budget is spent: who has blocks refuses them, who wants them asks elsewhere."""

from __future__ import annotations

import asyncio

from dreamer.protocol.link.messages import GetObject, ObjectPiece, Refuse, Want


def refusals(two) -> list[Refuse]:
    return [one for one in two.taker.heard.messages if isinstance(one, Refuse)]


def spend(end, spent: bool = True) -> None:
    """Have an end know that its relay is spent, as ``Relays`` does."""
    end.link.bulk_spent = spent
    end.node.fanout.lane_changed(end.link)


async def test_spent_relay_refuses_what_was_promised_and_what_is_asked_anew(two, kit) -> None:
    two.giver.stuck = True
    two.taker_end.say(Want(1, two.manifest.id, 0, 2, False))
    await kit.until(lambda: two.giver_end.queue)
    spend(two.giver_end)
    two.taker_end.say(Want(2, two.manifest.id, 0, 1, False))
    await kit.until(lambda: len(refusals(two)) == 2)
    # Busy: it holds them still, and may give them tomorrow.
    assert [(one.request, one.busy) for one in refusals(two)] == [(1, True), (2, True)]
    assert all("budget" in one.reason for one in refusals(two))
    assert not two.giver_end.queue
    two.giver.stuck = False
    spend(two.giver_end, spent=False)
    two.taker_end.say(Want(3, two.manifest.id, 0, 1, False))
    await kit.until(lambda: two.giver.sent_blocks == 1)


async def test_spent_relay_still_carries_objects(two, kit) -> None:
    spend(two.giver_end)
    two.taker_end.say(GetObject(1, two.manifest.id, 0))
    await kit.until(lambda: two.taker.heard.messages)
    assert isinstance(two.taker.heard.messages[0], ObjectPiece)


async def begun(kit, pulling, end) -> asyncio.Task[None]:
    """Start a pull; return once its requests have reached the other end of a cable."""
    task = asyncio.create_task(pulling.run())
    await kit.until(lambda: end.queue)
    return task


async def test_pull_goes_on_with_another_peer_when_one_relay_is_spent(
    world, kit, sharing_contents
) -> None:
    first, second, taker = world.node(), world.node(), world.node()
    manifest = first.ingest(world.files(sharing_contents))
    second.ingest(world.files(sharing_contents, "same"))
    first.stuck = True
    first.offer(manifest)
    first_end, taker_end = world.join(first, taker)
    pulling = kit.pulling(taker, manifest, first)
    task = await begun(kit, pulling, first_end)
    spend(taker_end)
    second.offer(manifest)
    world.join(second, taker)
    pulling.job.link_up(taker.links.link(second.id))
    await task
    assert pulling.whole
    assert first.sent_blocks == 0


async def test_pull_turns_to_the_origin_at_once_when_the_only_relay_is_spent(two, kit) -> None:
    two.giver.stuck = True
    origin = kit.memory_origin(two.giver.store)
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    task = await begun(kit, pulling, two.giver_end)
    spend(two.taker_end)
    await task
    assert pulling.whole
    assert pulling.job.moved().by_lane["origin"] == two.manifest.size_bytes
