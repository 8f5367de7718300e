"""Reads a request's JSON body into a dataclass; every mistake is named by its field."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from aiohttp import web

from dreamer.daemon.field_types import TableText, checked
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.daemon.surfaces.inference import Prefer, RunOptions
from dreamer.daemon.surfaces.pushing import OriginWait, PushRequest
from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    PROMPT_MAX_BYTES,
)
from dreamer.protocol.limits import (
    INVITE_DEFAULT_TTL_S,
)
from dreamer.protocol.registry.provenance import Provenance, read_provenance

B = TypeVar("B")

DEFAULT_ROLES = ("member", "publisher")
"""What an invitation grants when it doesn't say: a team whose members push and pull just works."""


@dataclass(frozen=True)
class CreateRoom:
    """Body of ``POST rooms``."""

    name: str
    trackers: tuple[str, ...]
    origin: str | None = None
    endpoint_url: str | None = None
    no_tracker: bool = False
    registry: str = "tracker"


@dataclass(frozen=True)
class JoinRoom:
    """Body of ``POST rooms/join``."""

    token: str


@dataclass(frozen=True)
class Invite:
    """Body of ``POST rooms/{room}/invite``."""

    roles: tuple[str, ...] = DEFAULT_ROLES
    expires_s: float = INVITE_DEFAULT_TTL_S
    uses: int = 1

    def __post_init__(self) -> None:
        if self.expires_s <= 0:
            raise InputError("field 'expires_s' must be more than 0 seconds")
        if self.uses < 1:
            raise InputError("field 'uses' must be 1 or more")


@dataclass(frozen=True)
class OfferLink:
    """Body of ``POST connect/offer``."""

    room: str | None = None


@dataclass(frozen=True)
class AnswerLink:
    """Body of ``POST connect/answer``."""

    text: str


@dataclass(frozen=True)
class SetAlias:
    """Body of ``PUT rooms/{room}/aliases/{alias}``."""

    ref: str
    expected: str | None = None


@dataclass(frozen=True)
class ChangeTags:
    """Body of ``POST rooms/{room}/models/{ref}/tags``."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Push:
    """Body of ``POST push``."""

    path: str
    room: str
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    name: str | None = None
    allow_pickle: bool = False
    public: bool = False
    notes: str | None = None
    provenance: TableText | None = None
    trained_from: tuple[str, ...] = ()
    wait: OriginWait = "try"

    def __post_init__(self) -> None:
        absolute_path(self.path, "path")

    def request(self) -> PushRequest:
        """Return what the node is asked."""
        path = Path(self.path)
        return PushRequest(
            *(path, self.aliases, self.tags, self.name or path.name),
            *(self.allow_pickle, self.public, self.notes, _provenance(self.provenance)),
            trained_from=self.trained_from,
            wait=self.wait,
            named=self.name is not None,
        )


@dataclass(frozen=True)
class Pull:
    """Body of ``POST pull``."""

    ref: str
    room: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if self.output is not None:
            absolute_path(self.output, "output")


@dataclass(frozen=True)
class WriteTorrent:
    """Body of ``POST torrent``."""

    ref: str
    room: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if self.output is not None:
            absolute_path(self.output, "output")


@dataclass(frozen=True)
class Run:
    """Body of ``POST run``."""

    ref: str
    prompt: str
    room: str | None = None
    max_tokens: int = 256
    where: Prefer = "auto"
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= GENERATE_MAX_TOKENS:
            raise InputError(f"field 'max_tokens' must be between 1 and {GENERATE_MAX_TOKENS}")
        if len(self.prompt.encode(errors="replace")) > PROMPT_MAX_BYTES:
            raise InputError(f"field 'prompt' must be at most {PROMPT_MAX_BYTES} bytes")

    @property
    def model(self) -> str:
        """What the facet ``inference`` calls the model."""
        return self.ref if self.room is None else f"{self.ref}@{self.room}"

    def request(self) -> GenerateRequest:
        """Return what is asked."""
        sampling = Sampling(temperature=self.temperature, top_p=self.top_p, seed=self.seed)
        return GenerateRequest(
            prompt=self.prompt, max_tokens=self.max_tokens, sampling=sampling, stop=self.stop
        )

    def options(self) -> RunOptions:
        """Return how it is to be run."""
        return RunOptions(self.where)


def _provenance(table: TableText | None) -> Provenance | None:
    if table is None:
        return None
    found = read_provenance(loads_lenient(table.encode()))
    # Who writes a field that means nothing here expects it to mean something.
    unknown = [*found.extra, *(["parents"] if found.parents else [])]
    if unknown:
        raise InputError(
            f"unknown field {unknown[0]!r:.80} in 'provenance'; it can be: trained_by, trained_at, "
            "config, config_digest, metrics (parents are given as 'trained_from')"
        )
    return found


def absolute_path(text: str, field: str) -> Path:
    """Return a path that means the same to the daemon as to its client.

    Raises:
        InputError: it is relative, or holds a NUL.
    """
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise InputError(f"field {field!r} must be an absolute path, not {text!r:.200}")
    return path


async def read_bytes(request: web.Request, most_bytes: int) -> bytearray:
    """Return the request's body, of any type.

    Raises:
        HTTPRequestEntityTooLarge: it is longer than ``most_bytes``, or says that it will be.
    """
    if (request.content_length or 0) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(most_bytes, request.content_length or 0)
    data = bytearray()
    async for piece in request.content.iter_any():
        data += piece
        if len(data) > most_bytes:
            raise web.HTTPRequestEntityTooLarge(most_bytes, len(data))
    return data


async def read_body(request: web.Request, kind: type[B]) -> B:
    """Return the request's body as ``kind``.

    Raises:
        InputError: not a JSON object, a field is unknown, missing or of a wrong type.
    """
    # An empty body is an empty object: every field may have a default.
    data = await request.read()
    return parse_body(loads_lenient(data) if data else {}, kind)


def parse_body(value: Json, kind: type[B]) -> B:
    """Return the JSON object as ``kind``; see ``read_body``."""
    hints = get_type_hints(kind)
    keys = fields(kind)  # type: ignore[arg-type]
    for name in value:
        if name not in hints:
            raise InputError(f"unknown field {name!r:.80}; it can be: {', '.join(hints)}")
    given: dict[str, Any] = {}
    for key in keys:
        if key.name in value:
            given[key.name] = checked(value[key.name], hints[key.name], f"field {key.name!r}")
        elif key.default is MISSING:
            raise InputError(f"field {key.name!r} is missing")
    return kind(**given)
