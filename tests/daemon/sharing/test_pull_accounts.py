"""What pulls enter in the ledger: bytes moved, whatever became of them, and uses of models."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dreamer.daemon.costs.account import Accounts
from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.sharing import described
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.shared_pull import PullerParts


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Nobody waits for members that are not there."""
    monkeypatch.setattr(described, "DISCOVERY_MAX_S", 0.0)
    monkeypatch.setattr(described, "OBJECT_RETRY_S", 0.01)


class NoOrigins:
    def of(self, card) -> None:
        """The room has none."""

    def of_model(self, card, model) -> None:
        """Nor has a model of it."""


@pytest.fixture
def accounts(two) -> Accounts:
    return Accounts(Ledger(two.taker.state.database))


@pytest.fixture
def puller(two, accounts) -> Puller:
    node = two.taker
    context = replace(node.context(), accounts=accounts)
    parts = PullerParts(
        *(node.store, node.state, node.library, NoOrigins(), lambda *_: context, node.tasks),
        accounts=accounts,
    )
    return Puller(parts)


@pytest.fixture
def pull(two, kit, puller):
    async def run():
        session = kit.session_of(two.taker, [two.giver])
        async with asyncio.timeout(20):
            return [e async for e in puller.pull(session, kit.model_of(two.manifest), None)][-1]

    return run


@pytest.fixture
def told(accounts, kit, two):
    """Return what the ledger says of the model."""

    def read() -> dict[str, int]:
        from dreamer.daemon.costs.ledger import Span

        usage = accounts.ledger.by_model(Span(), kit.room).get(two.manifest.id, {})
        return {str(entry): amount for entry, amount in usage.items()}

    return read


async def test_a_pull_is_a_use_of_what_it_moved(two, pull, told) -> None:
    await pull()
    size = two.manifest.size_bytes
    assert told() == {"webrtc-down": size, "all-wanted": size, "all-uses": 1}


async def test_a_second_pull_is_a_use_that_moves_nothing(two, pull, told) -> None:
    await pull()
    await pull()
    size = two.manifest.size_bytes
    assert told() == {
        "webrtc-down": size, "cache-down": size, "all-wanted": 2 * size, "all-uses": 2,
    }  # fmt: skip


async def test_two_that_wait_for_one_download_are_two_uses(two, pull, told) -> None:
    await asyncio.gather(pull(), pull())
    size = two.manifest.size_bytes
    assert told() == {
        "webrtc-down": size, "cache-down": size, "all-wanted": 2 * size, "all-uses": 2,
    }  # fmt: skip


def hangs_after_a_block(node) -> None:
    def tamper(data: bytes) -> bytes:
        node.stuck = True
        return data

    node.tamper = tamper


async def stopped_when_something_came(two, kit, puller) -> None:
    """Begin a pull and cancel it once the first block is here."""
    session = kit.session_of(two.taker, [two.giver])
    events = puller.pull(session, kit.model_of(two.manifest), None)
    async with asyncio.timeout(20):
        async for event in events:
            if sum(event.by_lane.values()):
                break
    (running,) = puller.under_way()
    assert running.progress.done < two.manifest.size_bytes
    await events.aclose()


async def test_what_a_pull_moved_that_was_cancelled_is_paid_for_and_no_use(
    two, kit, puller, told
) -> None:
    hangs_after_a_block(two.giver)
    await stopped_when_something_came(two, kit, puller)
    await kit.until(lambda: told().get("webrtc-down", 0) > 0)
    assert list(told()) == ["webrtc-down"]
    assert told()["webrtc-down"] < two.manifest.size_bytes


async def test_what_was_fetched_before_a_break_is_counted_once(
    two, kit, pull, puller, told
) -> None:
    hangs_after_a_block(two.giver)
    await stopped_when_something_came(two, kit, puller)
    two.giver.tamper, two.giver.stuck = (lambda data: data), False
    receipt = await pull()
    size, cached = two.manifest.size_bytes, receipt.bytes["cache"]
    # A file that the first part finished is the store's own by then.
    assert cached + receipt.resumed == size - receipt.bytes["webrtc"] > 0
    found = told()
    assert found.pop("cache-down", 0) == cached
    assert found == {"webrtc-down": size, "all-wanted": size, "all-uses": 1}
