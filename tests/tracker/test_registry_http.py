from __future__ import annotations

import io

import pytest

from dreamer.protocol.tracker_limits import TRACKER_REGISTRY_MAX_BYTES, TRACKER_SESSION_GRACE_S


class Clerk:
    """A member's HTTP side."""

    def __init__(self, running, insider, session: str) -> None:
        self._running = running
        self.path = f"/rooms/{insider.room_id.hex()}/registry"
        self.bearer = {"Authorization": f"Bearer {session}"}

    async def get(self, **headers: str) -> tuple[int, str, dict]:
        return await self._running.get(self.path, headers={**self.bearer, **headers})

    async def put(self, body: bytes, **headers: str) -> tuple[int, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._running.http.put(
            self._running.url + self.path, data=io.BytesIO(body), headers={**self.bearer, **sent}
        ) as response:
            return response.status, response.headers.get("ETag", await response.text())


async def enter(running, insider) -> tuple:
    talker, welcome = await insider.enter(running)
    return talker, Clerk(running, insider, welcome["session"])


async def test_registry_is_made_read_and_changed_under_its_etag(running, insiders):
    _, clerk = await enter(running, insiders[0])
    assert (await clerk.get())[0] == 404
    status, etag = await clerk.put(b'{"n":1}', If_None_Match="*")
    assert status == 201
    status, body, headers = await clerk.get()
    assert (status, body, headers["ETag"]) == (200, '{"n":1}', etag)
    assert (await clerk.get(**{"If-None-Match": etag}))[0] == 304
    assert (await clerk.get(**{"If-None-Match": f'"x", W/{etag}'}))[0] == 304
    status, newer = await clerk.put(b'{"n":2}', If_Match=etag)
    assert (status, newer != etag) == (204, True)
    assert (await clerk.get(**{"If-None-Match": etag}))[1] == '{"n":2}'


async def test_stale_or_missing_precondition_writes_nothing(running, insiders):
    _, clerk = await enter(running, insiders[0])
    assert (await clerk.put(b"{}"))[0] == 428
    assert (await clerk.put(b"{}", If_None_Match='"x"'))[0] == 428
    assert (await clerk.put(b"{}", If_Match="*"))[0] == 412
    _, etag = await clerk.put(b'{"n":1}', If_None_Match="*")
    await clerk.put(b'{"n":2}', If_Match=etag)
    assert (await clerk.put(b'{"n":3}', If_Match=etag))[0] == 412
    assert (await clerk.put(b'{"n":3}', If_None_Match="*"))[0] == 412
    assert (await clerk.get())[1] == '{"n":2}'
    assert (await clerk.put(b'{"n":4}', If_Match="*"))[0] == 204


async def test_members_hear_of_the_change(running, insiders):
    _, clerk = await enter(running, insiders[0])
    other, _ = await enter(running, insiders[1])
    _, etag = await clerk.put(b"{}", If_None_Match="*")
    assert await other.hear_type("registry") == {"type": "registry", "etag": etag}


@pytest.mark.parametrize("role", ["publisher", "worker", "admin"])
async def test_who_has_something_to_write_down_may_write(running, insider_of, role):
    _, clerk = await enter(running, insider_of(1).invited(("member", role), invite=1))
    assert (await clerk.put(b"{}", If_None_Match="*"))[0] == 201


async def test_plain_members_read_and_do_not_write(running, insiders, insider_of):
    _, writing = await enter(running, insiders[0])
    _, reading = await enter(running, insider_of(2).invited(("member",), invite=2))
    status, text = await reading.put(b"{}", If_None_Match="*")
    assert (status, text) == (403, "only publishers, workers and admins may change the registry")
    assert (await writing.put(b"{}", If_None_Match="*"))[0] == 201
    assert (await reading.get())[0] == 200


async def test_stranger_gets_one_answer_for_every_room(running, insiders, insider_of):
    _, clerk = await enter(running, insiders[0])
    await clerk.put(b"{}", If_None_Match="*")
    _, foreign = await enter(running, insider_of(1, room_seed=101))
    answers = [
        await running.get(path, headers=headers)
        for path in (clerk.path, f"/rooms/{'00' * 32}/registry", "/rooms/x/registry")
        for headers in (
            {},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": "Basic " + foreign.bearer["Authorization"].split()[1]},
            foreign.bearer,
        )
    ]
    seen = {(status, text) for status, text, _ in answers}
    assert seen == {(401, "log in at /room first")}
    async with running.http.put(running.url + clerk.path, data=b"{}") as response:
        assert response.status == 401


async def test_session_outlives_its_socket_by_a_minute(running, insiders):
    talker, clerk = await enter(running, insiders[0])
    other, _ = await enter(running, insiders[1])
    await talker.close()
    await other.hear_type("left")
    assert (await clerk.get())[0] == 404
    clock = running.tracker._registry._auth.steady
    running.tracker._registry._auth.steady = lambda: clock() + TRACKER_SESSION_GRACE_S + 1
    assert (await clerk.get())[0] == 401


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"text"'])
async def test_what_is_no_json_object_is_refused(running, insiders, body):
    _, clerk = await enter(running, insiders[0])
    assert (await clerk.put(body, If_None_Match="*"))[0] == 400
    assert (await clerk.get())[0] == 404


async def test_too_large_a_registry_is_refused(running, insiders):
    _, clerk = await enter(running, insiders[0])
    body = b'{"n":"' + b"x" * TRACKER_REGISTRY_MAX_BYTES + b'"}'
    assert (await clerk.put(body, If_None_Match="*"))[0] == 413
    assert (await clerk.get())[0] == 404
