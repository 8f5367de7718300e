"""The body of ``/api/create``: what is to be made, checked before anything is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from dreamer.daemon.rest.ollama import names, options, turns
from dreamer.daemon.rest.ollama.blobs import hex_of
from dreamer.daemon.rest.ollama.fields import Fields, model_of
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.protocol.errors import InputError

_PLAIN = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_REFUSED = {
    "adapters": "adapters can't be joined to models here: merge it into the model first",
    "quantize": "models are not quantized here: upload a GGUF that is",
    "modelfile": "send 'from' or 'files', as Ollama's clients do since 0.5.5, not a Modelfile",
    "path": "send 'from' or 'files' instead of a path",
}


@dataclass(frozen=True)
class Gguf:
    """An uploaded file: what the client called it, and its digest."""

    name: str
    digest: str


@dataclass(frozen=True)
class Plan:
    """What to make: of ``gguf``, or of the model ``base`` (then ``gguf`` is None)."""

    name: str
    alias: str
    room: str | None
    base: str
    gguf: Gguf | None
    recipe: Recipe
    template: str
    licences: tuple[str, ...]

    def on(self, base: Recipe) -> Recipe:
        """Return the recipe of the new model, which keeps what is not said anew."""
        return Recipe(
            self.recipe.system or base.system,
            {**base.parameters, **self.recipe.parameters},
            self.recipe.messages or base.messages,
        )


def parse(fields: Fields) -> Plan:
    """Read the body.

    Raises:
        InputError: something is wrong, or asks for what can't be done here.
    """
    for name, why in _REFUSED.items():
        if fields.has(name):
            raise InputError(why)
    new = names.parse(model_of(fields))
    base, files = fields.text("from"), fields.table("files")
    if bool(base) == bool(files):
        raise InputError("neither 'from' or 'files' was specified" if not base else
                         "say either 'from' or 'files', not both")  # fmt: skip
    parameters = fields.table("parameters")
    options.check_names(parameters)
    options.parse(parameters)
    return Plan(
        name=new.said,
        alias=names.new_alias(new.said),
        room=new.room or None,
        base=base,
        gguf=_gguf(files) if files else None,
        recipe=Recipe(fields.text("system"), parameters, turns.words(fields.tables("messages"))),
        template=fields.text("template"),
        licences=fields.texts("license"),
    )


def _gguf(files: dict[str, object]) -> Gguf:
    if len(files) != 1:
        raise InputError("a model is made of one GGUF file; merge a split one first")
    ((name, digest),) = files.items()
    if not isinstance(digest, str):
        raise InputError("field 'files' must name a file and its digest")
    hex_of(digest)
    plain = _PLAIN.sub("-", PurePosixPath(name.replace("\\", "/")).name).lstrip(".-")
    if not plain.lower().endswith(".gguf"):
        raise InputError(f"{name!r:.80} is no GGUF: models here are made of .gguf files only")
    return Gguf(plain, digest)
