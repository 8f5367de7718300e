"""Where a topology comes from: a file, a node of this machine, or one that is reached by HTTP."""

from __future__ import annotations

import http.client
import stat
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

from dreamer.daemon.client import Dreamer
from dreamer.daemon.places import find_places
from dreamer.protocol import topology
from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import DreamerError, InputError, LocalError, error_from_code
from dreamer.protocol.limits import CLIENT_REQUEST_TIMEOUT_S
from dreamer.protocol.topology import Topology

ONLY_ROOM = "-"
ANSWER_MAX_BYTES = 64 * 2**20
"""More than any room's topology takes; who answers may be anybody."""


def read_topology(source: str, room: str | None = None, token: str = "") -> Topology:
    """Return the topology that ``source`` is or gives.

    ``source`` is a file of ``dreamer export topology``, a node's socket or home, or the URL of its
    API (``http://127.0.0.1:8471``), which takes the ``token``. ``room`` as in ``dreamer export``.

    Raises:
        InputError: there is no such thing, or it is no topology that can be read here.
        LocalError: no daemon runs there, or it can't be reached.
        DreamerError: what the node answered.
    """
    if source.startswith(("http://", "https://")):
        return topology.from_json(_fetched(source, room, token))
    path = Path(source).expanduser()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"can't read {source!r:.200} ({error.strerror}): give a file made by "
            "'dreamer export topology', a node's socket or home, or the URL of its API"
        ) from error
    if stat.S_ISREG(mode):
        return topology.from_json(_parsed(path))
    return topology.from_json(Dreamer(_home_of(path, mode)).topology(room))


def _home_of(path: Path, mode: int) -> Path:
    if stat.S_ISDIR(mode):
        return path
    home = path.absolute().parent.parent
    # The client finds a daemon by its home: HOME/run/dreamerd.sock.
    if stat.S_ISSOCK(mode) and find_places(home, "").socket == path.absolute():
        return home
    raise InputError(f"{path} is neither a file nor the socket of a home: give HOME itself")


def _parsed(path: Path) -> Json:
    try:
        return loads_lenient(path.read_bytes())
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(
            f"{path} is no topology ({error}): make one with 'dreamer export'"
        ) from error


def _fetched(url: str, room: str | None, token: str) -> Json:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    if not parts.hostname:
        raise InputError(f"{url!r:.200} names no host: write it as http://127.0.0.1:8471")
    path = f"{parts.path.rstrip('/')}/dreamer/v1/rooms/{quote(room or ONLY_ROOM, safe='')}/topology"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with closing(kind(parts.hostname, parts.port, timeout=CLIENT_REQUEST_TIMEOUT_S)) as asked:
            asked.request("GET", path, headers=headers)
            answer = asked.getresponse()
            return _checked(answer.status, answer.read(ANSWER_MAX_BYTES), url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LocalError(
            f"no node answers at {url} ({error}): see [api] listen in its settings, or copy a file "
            "made by 'dreamer export topology' here"
        ) from error


def _checked(status: int, body: bytes, url: str) -> Json:
    try:
        value: Json = loads_lenient(body)
    except InputError:
        value = {}
    if status == http.client.OK and value:
        return value
    if status == http.client.UNAUTHORIZED:
        raise LocalError(
            f"the node at {url} wants its token, which is in HOME/identity/api-token: give --token"
        )
    error = value.get("error")
    if isinstance(error, dict):
        raise error_from_code(str(error.get("code")), str(error.get("message")))
    raise DreamerError(
        f"{url} answered {status} and no topology: is it a dreamerd of this version or later?"
    )
