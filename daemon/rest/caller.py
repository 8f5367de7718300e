"""The client's end of the API, blocking: one connection a call, over the Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dreamer.daemon.places import find_places
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.rest.local_socket import connect
from dreamer.daemon.worker.session_home import existing_session_homes
from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import DreamerError, InputError, LocalError, error_from_code
from dreamer.protocol.limits import (
    CLIENT_LINE_MAX_BYTES,
    CLIENT_REQUEST_TIMEOUT_S,
    CLIENT_SILENCE_TIMEOUT_S,
)

_PREFIX = "/dreamer/v1"
_NOBODY = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)


class Caller:
    """Sends requests to the daemon of one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._socket = find_places(home, "").socket

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Return the answer to a short request.

        Raises:
            LocalError: no daemon runs, or it went away.
            DreamerError: what the daemon answered.
        """
        with (
            closing(self._connect(CLIENT_REQUEST_TIMEOUT_S)) as connection,
            self._watching(CLIENT_REQUEST_TIMEOUT_S),
            closing(_send(connection, method, path, body, "application/json")) as answer,
        ):
            return _checked(answer)

    def events(
        self, path: str, body: Json, kinds: dict[str, type[Any]], *, endless: bool = False
    ) -> Generator[Any, None, None]:
        """Yield the events of long work as their classes, up to the last of ``kinds``.

        If it is ``endless``, for as long as they are read.

        Closing the generator closes the connection, which cancels the work.

        Raises:
            LocalError: no daemon runs, it went away or fell silent.
            DreamerError: what the daemon answered.
        """
        # Events end with their receipt; a stream that ends without one was cut off.
        last = None if endless else list(kinds)[-1]
        with (
            closing(self._connect(CLIENT_SILENCE_TIMEOUT_S)) as connection,
            self._watching(CLIENT_SILENCE_TIMEOUT_S),
            closing(_send(connection, "POST", path, body, "text/event-stream")) as answer,
        ):
            if answer.status != http.client.OK:
                _checked(answer)
            for name, data in _frames(answer):
                if name == "error":
                    raise error_from_code(str(data.get("code")), str(data.get("message")))
                if name in kinds:
                    yield from_json(kinds[name], data)
                if name == last:
                    return
            raise self._gone()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        try:
            end = self._reach(timeout_s)
        except PermissionError as error:
            raise LocalError(
                f"the dreamerd for {self._home} belongs to somebody else: choose your own --home"
            ) from error
        except TimeoutError as error:
            raise self._silent(timeout_s) from error
        except OSError as error:
            raise LocalError(
                f"no dreamerd is running for {self._home}; "
                f"start it with: dreamerd --home {self._home}"
            ) from error
        connection = http.client.HTTPConnection("dreamerd", timeout=timeout_s)
        connection.sock = end
        return connection

    def _reach(self, timeout_s: float) -> socket.socket:
        """Connect to the daemon of this home, or to that of a session in its place."""
        try:
            return connect(self._socket, timeout_s)
        except (*_NOBODY, PermissionError):
            # Of a worker whose home can't be written: it lives in a temporary directory.
            for home in existing_session_homes(self._home, os.environ):
                try:
                    return connect(find_places(home, "").socket, timeout_s)
                except (*_NOBODY, PermissionError):
                    continue
            raise

    @contextmanager
    def _watching(self, timeout_s: float) -> Iterator[None]:
        """Turn a connection that breaks or falls silent into one clear error."""
        try:
            yield
        except TimeoutError as error:
            raise self._silent(timeout_s) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._gone() from error

    def _silent(self, timeout_s: float) -> LocalError:
        return LocalError(
            f"dreamerd for {self._home} runs but has said nothing for {timeout_s:.0f} s: it is "
            "very busy or it hangs; see its log, and repeat the command"
        )

    def _gone(self) -> LocalError:
        return LocalError(
            f"dreamerd for {self._home} went away before it was done; see its log, "
            "start it again and repeat the command"
        )


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: Json | None, accept: str
) -> http.client.HTTPResponse:
    headers = {"Accept": accept}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body)
    connection.request(method, f"{_PREFIX}{path}", data, headers)
    return connection.getresponse()


def _checked(answer: http.client.HTTPResponse) -> Json:
    """Return the JSON of a good answer, raise the error of another."""
    try:
        value = loads_lenient(answer.read())
    except InputError:
        value = {}
    error = value.get("error")
    if answer.status < http.client.BAD_REQUEST and value:
        return value
    if isinstance(error, dict):
        raise error_from_code(str(error.get("code")), str(error.get("message")))
    raise DreamerError(f"dreamerd failed (HTTP {answer.status}): see its log")


def _frames(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Json]]:
    """Yield name and data of each Server-Sent Event; comments only prove that somebody is there."""
    name = ""
    while line := answer.readline(CLIENT_LINE_MAX_BYTES):
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, loads_lenient(value.encode())
