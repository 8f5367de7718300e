"""Ollama's names of models, ``[namespace/]name[:tag]``, and what they mean in a room.

Clients add ``:latest`` to a name or leave it out as they like, and rooms have neither tags nor
slashes, colons or dots in their aliases. So a name means what it says, else the same without
``:latest``, else the alias that has ``-`` in place of what an alias can't have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dreamer.daemon.surfaces.inference import Inference, Servable
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.inference_limits import OLLAMA_NAME_MAX_CHARS
from dreamer.protocol.registry.names import check_alias

LATEST = "latest"
_NOT_OF_ALIASES = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True)
class Name:
    """A name as it was given, in its parts; ``room`` and ``tag`` are empty where there is none."""

    base: str
    tag: str
    room: str

    @property
    def said(self) -> str:
        """The name without its room, and without the tag that says nothing."""
        return self.base if self.tag in ("", LATEST) else f"{self.base}:{self.tag}"

    @property
    def alias(self) -> str:
        """The alias that stands for it in a room."""
        return _NOT_OF_ALIASES.sub("-", self.said).strip("-_")


@dataclass(frozen=True)
class Found:
    """A model that a name means, and the reference by which the node knows it."""

    ref: str
    servable: Servable


def parse(model: str) -> Name:
    """Take a name apart; ``@room`` may stand before or after the tag.

    Raises:
        InputError: it is empty, or far too long.
    """
    if len(model) > OLLAMA_NAME_MAX_CHARS:
        raise InputError(f"a model's name has at most {OLLAMA_NAME_MAX_CHARS} characters")
    base, at, room = model.strip().rpartition("@")
    if not at:
        base, room = room, ""
    room, _, late_tag = room.partition(":")
    base, tag = _tagged(base)
    if not base:
        raise InputError("model is required: name one of those that 'ollama list' shows")
    return Name(base, tag or late_tag, room)


def _tagged(text: str) -> tuple[str, str]:
    head, slash, last = text.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag


def references(model: str) -> list[str]:
    """Return what a name may mean to the node, the likeliest first.

    Raises:
        InputError: it is empty.
    """
    name = parse(model)
    room = f"@{name.room}" if name.room else ""
    # The whole name too: a model may be called "x:latest" or "a@b" itself.
    meant = [name.said + room, f"{name.alias}{room}" if name.alias else "", model.strip()]
    return list(dict.fromkeys(one for one in meant if one))


async def find(inference: Inference, model: str) -> Found:
    """Return the model that a name means.

    Raises:
        InputError: the name is empty.
        NoMatchError: it means none.
        AmbiguousError: it means several.
    """
    reasons: list[str] = []
    for ref in references(model):
        try:
            return Found(ref, await inference.find(ref))
        except NoMatchError as error:
            reasons.append(str(error))
    # In Ollama's words, which some clients look for.
    raise NoMatchError(f"model {model!r:.80} not found: {reasons[0]}")


def new_alias(model: str) -> str:
    """Return the alias that a new name becomes.

    Raises:
        InputError: none can be made of it, or it is a path and no name.
    """
    name = parse(model)
    parts = name.base.split("/")
    if "\\" in model or any(part.strip(".") == "" for part in parts):
        raise InputError(
            f"{model!r:.80} is no name for a model: use letters, digits, '-' and '_', such as "
            "my-model"
        )
    return check_alias(name.alias)


def told(servables: Iterable[Servable]) -> list[tuple[str, Servable]]:
    """Return what to call each model, in their order: a line for every name, as Ollama has it.

    A name that means something else in another room gets its room.
    """
    listed = [(name, one) for one in servables for name in _names(one)]
    meanings: dict[str, set[str]] = {}
    for name, one in listed:
        meanings.setdefault(name, set()).add(one.manifest_id)
    lines: dict[str, Servable] = {}
    for name, one in listed:
        several = len(meanings[name]) > 1
        lines.setdefault(_with_tag(f"{name}@{one.room}" if several else name), one)
    return list(lines.items())


def _names(one: Servable) -> list[str]:
    """Return a model's aliases, as they were given to Ollama if its own name tells."""
    try:
        own = parse(one.name)
    except InputError:
        return [*one.aliases] or [one.manifest_id[:8]]
    return [own.said if alias == own.alias else alias for alias in one.aliases] or [own.said]


def _with_tag(name: str) -> str:
    base, at, room = name.partition("@")
    return f"{base}{'' if ':' in base else ':' + LATEST}{at}{room}"
