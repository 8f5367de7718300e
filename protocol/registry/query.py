"""Finds models: ``tag:validated and type:decoder and metrics.val_loss < 0.03``.

A term is ``FIELD:VALUE`` (``tag type alias id name by parent is``), a comparison of a number
(``size files age metrics.NAME config.NAME``), or a bare word, which is an alias, the start of an id
or a part of the name. Terms are joined by ``and`` (which may be left out), ``or``, ``not`` and
parentheses. A model that lacks what is compared never matches, whatever the comparison.
"""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError

from dreamer.protocol.errors import InputError
from dreamer.protocol.registry.view import Model
from dreamer.protocol.registry_limits import QUERY_MAX_CHARS

Predicate = Callable[[Model], bool]

_GRAMMAR = r"""
?start: either
?either: both ("or"i both)*
?both: single ("and"i? single)*
?single: "not"i single           -> negated
       | "(" either ")"
       | FIELD ":" _value        -> has
       | NUMBER_OF OP _value     -> compared
       | WORD                    -> named
       | QUOTED                  -> named
_value: WORD | QUOTED | FIELD | NUMBER_OF

FIELD.3: /(tag|type|alias|id|name|by|parent|is)(?=:)/
NUMBER_OF.2: /(size|files|age|metrics\.[\w.\/-]+|config\.[\w.\/-]+)(?=\s*[<>=!])/
OP: "<=" | ">=" | "!=" | "==" | "<" | ">" | "="
WORD: /(?!(?:and|or|not)(?![\w.*?-]))[^\s()"'<>=!:]+/i
QUOTED: /"[^"]*"/ | /'[^']*'/
%ignore /\s+/
"""

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}

# Decimal, as disks are sold and ``dreamer models`` prints them; the binary ones by their own names.
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_IS: Mapping[str, Predicate] = {
    "public": lambda model: model.torrent is not None,
    "stored": lambda model: model.stored is not None,
    "cached": lambda model: bool(model.cached_on),
    "served": lambda model: any(serves for _, serves in model.cached_on),
    "temporary": lambda model: model.expires_at is not None,
}


@dataclass(frozen=True)
class Query:
    """A query that was understood; ``matches`` tells which models it means."""

    text: str
    matches: Predicate


def parse(text: str, now: float) -> Query:
    """Return the query in a text; ``age`` is counted back from ``now`` (epoch seconds).

    Raises:
        InputError: it can't be read; the message points at where.
    """
    if len(text) > QUERY_MAX_CHARS:
        raise InputError(f"a query has {QUERY_MAX_CHARS} characters at most")
    try:
        found = _Meaning(now).transform(_grammar().parse(text))
    except UnexpectedInput as error:
        raise InputError(_explained(text, error)) from error
    except VisitError as error:
        # What a term means is checked where it is given its meaning.
        cause: BaseException = error.orig_exc
        if isinstance(cause, InputError):
            raise cause from error
        raise
    return Query(text, found)


@cache
def _grammar() -> Lark:
    # Made when first needed: most commands ask no question.
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def _explained(text: str, error: UnexpectedInput) -> str:
    ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    at = len(text) if ended or error.pos_in_stream is None else error.pos_in_stream
    where = f"at {text[at : at + 20]!r}" if at < len(text) else "at its end"
    return (
        f"the query {text!r:.100} can't be read {where}: write it as in "
        "'tag:validated and type:decoder and metrics.val_loss < 0.03'"
    )


def _unquoted(value: Token) -> str:
    return value[1:-1] if value.type == "QUOTED" else str(value)


@v_args(inline=True)
class _Meaning(Transformer[Token, Predicate]):
    """Makes one predicate of a parsed query, from its leaves up."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._now = now

    def either(self, *options: Predicate) -> Predicate:
        return lambda model: any(option(model) for option in options)

    def both(self, *needs: Predicate) -> Predicate:
        return lambda model: all(need(model) for need in needs)

    def negated(self, inner: Predicate) -> Predicate:
        return lambda model: not inner(model)

    def named(self, word: Token) -> Predicate:
        wanted = _unquoted(word)
        return lambda model: (
            wanted in model.aliases
            or model.manifest_id.hex().startswith(wanted.lower())
            or wanted.lower() in model.name.lower()
        )

    def has(self, field: Token, value: Token) -> Predicate:
        wanted = _unquoted(value)
        if field == "is" and wanted not in _IS:
            raise InputError(f"is:{wanted:.40} says nothing: use one of {', '.join(_IS)}")
        return _having(str(field), wanted)

    def compared(self, number_of: Token, sign: Token, value: Token) -> Predicate:
        compare, wanted = _OPERATORS[str(sign)], _unquoted(value)
        subject, _, name = number_of.partition(".")
        match subject:
            case "size":
                size = _quantity(wanted, _BYTES, "a size such as 1.5GB")
                return lambda model: compare(model.size_bytes, size)
            case "files":
                files = _quantity(wanted, {}, "a number of files")
                return lambda model: compare(model.files, files)
            case "age":
                age = _quantity(wanted, _SECONDS, "an age such as 36h or 7d")
                now = self._now
                return lambda model: compare(now - model.at, age)
            case "metrics":
                bound = _quantity(wanted, {}, "a number")
                return lambda model: _compares(compare, model.metrics.get(name), bound)
            case _:
                return lambda model: _compares_config(compare, model.config.get(name), wanted)


def _having(field: str, wanted: str) -> Predicate:
    match field:
        case "tag":
            return lambda model: any(fnmatch.fnmatchcase(tag, wanted) for tag in model.tags)
        case "type":
            return lambda model: model.model_type == wanted
        case "alias":
            return lambda model: any(fnmatch.fnmatchcase(one, wanted) for one in model.aliases)
        case "id":
            return lambda model: model.manifest_id.hex().startswith(wanted.lower())
        case "name":
            return lambda model: fnmatch.fnmatchcase(model.name, wanted)
        case "by":
            return lambda model: model.published_by.hex().startswith(wanted.lower())
        case "parent":
            return lambda model: any(
                parent.hex().startswith(wanted.lower()) for parent in model.parents
            )
        case _:
            return _IS[wanted]


def _quantity(text: str, units: Mapping[str, int], what: str) -> float:
    number = text.lower().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.lower()[len(number) :]
    # "1e-3" ends in digits and so has no unit; "inf" and "nan" compare with nothing.
    try:
        return float(number) * (units[unit] if unit else 1)
    except (ValueError, KeyError) as error:
        raise InputError(f"{text!r:.40} is not {what}") from error


def _compares(compare: Callable[[Any, Any], bool], found: float | None, wanted: float) -> bool:
    return found is not None and compare(found, wanted)


def _compares_config(compare: Callable[[Any, Any], bool], found: object, wanted: str) -> bool:
    """Compare as numbers where both are, else as texts: ``config.dataset = librispeech``."""
    if found is None:
        return False
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        try:
            return compare(float(found), float(wanted))
        except ValueError:
            return False
    return compare(str(found).lower() if isinstance(found, bool) else str(found), wanted)
