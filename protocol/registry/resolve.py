"""From what a person typed to one model: an id, an alias, ``tag:NAME``, or the start of an id."""

from __future__ import annotations

import difflib
import re

from dreamer.protocol.errors import AmbiguousError, NoMatchError
from dreamer.protocol.ids import short
from dreamer.protocol.registry.names import check_tag
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.registry_limits import REF_MIN_PREFIX_DIGITS, REF_SHOWN_MATCHES

_TAG_QUERY = "tag:"
_PREFIX = re.compile(rf"[0-9a-f]{{{REF_MIN_PREFIX_DIGITS},64}}", re.ASCII)


def resolve(registry: Registry, ref: str) -> Model:
    """Return the one model that ``ref`` names.

    An exact id wins over an alias, an alias over the start of an id.

    Raises:
        NoMatchError: it names nothing.
        AmbiguousError: it names several models.
        InputError: a tag query's tag is not a possible tag.
    """
    matches = _matches(registry, ref)
    if not matches:
        raise NoMatchError(f"no model is called {ref!r:.80}{_hint(registry, ref)}")
    if len(matches) > 1:
        raise AmbiguousError(
            f"{ref!r:.80} names {len(matches)} models ({_listed(matches)}): "
            "say which by its id or alias"
        )
    return matches[0]


def _matches(registry: Registry, ref: str) -> list[Model]:
    if ref.startswith(_TAG_QUERY):
        tag = check_tag(ref.removeprefix(_TAG_QUERY))
        return [model for model in registry.models.values() if tag in model.tags]
    exact = [model for key, model in registry.models.items() if key.hex() == ref]
    if exact:
        return exact
    # Before prefixes: "cafe" is a good alias, and who set it means it.
    if ref in registry.aliases:
        return [registry.models[registry.aliases[ref]]]
    if _PREFIX.fullmatch(ref):
        return [model for key, model in registry.models.items() if key.hex().startswith(ref)]
    return []


def _hint(registry: Registry, ref: str) -> str:
    names = sorted(registry.aliases)
    near = difflib.get_close_matches(ref, names, cutoff=0.5)
    if ref.startswith(_TAG_QUERY):
        near = _near_tags(registry, ref)
    if near:
        return f"; did you mean {' or '.join(near)}? 'dreamer models' lists all"
    if re.fullmatch(r"[0-9a-f]+", ref) and len(ref) < REF_MIN_PREFIX_DIGITS:
        return f"; the start of an id must have {REF_MIN_PREFIX_DIGITS} digits or more"
    return "; 'dreamer models' lists what there is"


def _near_tags(registry: Registry, ref: str) -> list[str]:
    tags = sorted({tag: None for model in registry.models.values() for tag in model.tags})
    near = difflib.get_close_matches(ref.removeprefix(_TAG_QUERY), tags, cutoff=0.5)
    return [f"{_TAG_QUERY}{tag}" for tag in near]


def _listed(models: list[Model]) -> str:
    newest = sorted(models, key=lambda model: -model.at)
    shown = [_label(model) for model in newest[:REF_SHOWN_MATCHES]]
    if len(newest) > len(shown):
        shown.append(f"{len(newest) - len(shown)} more")
    return ", ".join(shown)


def _label(model: Model) -> str:
    return " ".join([short(model.manifest_id), *model.aliases])
