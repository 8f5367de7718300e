"""The directory of a model that ``/api/create`` makes: another model's files, and what is new.

Files that stay as they are become hard links, so a new system prompt costs a few hundred bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from dreamer.daemon.rest.ollama import recipe
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import MODEL_JSON_MAX_BYTES, OLLAMA_TEMPLATE_MAX_BYTES

_TOKENIZER = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
# How Go's templates begin an action that Jinja's have no word for.
_GO_SIGNS = (
    "{{ .",
    "{{.",
    "{{- .",
    "{{-.",
    "{{ if",
    "{{- if",
    "{{if",
    "{{ range",
    "{{- range",
    "{{ end",
)


def check_template(text: str) -> None:
    """Refuse what is no chat template of models here. Blocking: it is parsed.

    Raises:
        InputError: it is Go's, as Ollama's own are, or no good Jinja.
    """
    if len(text.encode()) > OLLAMA_TEMPLATE_MAX_BYTES:
        raise InputError(f"the template is longer than {OLLAMA_TEMPLATE_MAX_BYTES} bytes")
    if any(sign in text for sign in _GO_SIGNS):
        raise InputError(
            "the template is Go's: models here have Jinja templates, as in tokenizer_config.json"
        )
    # Only who makes a model waits for it.
    from jinja2 import Environment, TemplateError

    try:
        Environment(autoescape=False).parse(text)  # noqa: S701 - it is parsed, and never rendered
    except (TemplateError, RecursionError) as error:
        raise InputError(f"the template is no good Jinja: {error}") from error


def link_files(source: Path, target: Path) -> None:
    """Make ``target`` a directory of the same files as ``source``. Raises OSError. Blocking."""
    shutil.copytree(source, target, copy_function=_link)


def write_changes(
    directory: Path, made: Recipe, template: str = "", licences: tuple[str, ...] = ()
) -> None:
    """Write what is new of a model. Blocking.

    Raises:
        InputError: it is too long, or the model's tokenizer has no settings to put a template in.
        OSError: the disk is full or fails.
    """
    if made:
        _replace(directory / recipe.FILE_NAME, made.encode())
    if template:
        _set_template(directory, template)
    if licences:
        _replace(directory / "LICENSE", "\n\n".join(licences).encode())


def _set_template(directory: Path, template: str) -> None:
    place = directory / _TOKENIZER
    try:
        if place.stat().st_size > MODEL_JSON_MAX_BYTES:
            raise ValueError("too long")
        settings = json.loads(place.read_bytes())
        settings["chat_template"] = template
    except (FileNotFoundError, ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"the model has no {_TOKENIZER} that a template could be put in"
        ) from error
    _replace(place, json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n")
    # It would win over the one above.
    (directory / _TEMPLATE).unlink(missing_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system; if the disk is full, copying says so.
        shutil.copyfile(source, target)


def _replace(place: Path, data: bytes) -> None:
    """Write a file anew: the old one may be a link to what the store keeps."""
    place.unlink(missing_ok=True)
    place.write_bytes(data)
