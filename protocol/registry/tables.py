"""Reads the document's tables: a record that can't be read is left out and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import SHORT_ID_DIGITS, from_hex
from dreamer.protocol.registry.reading import Reader
from dreamer.protocol.registry.records import Record, S, read_record
from dreamer.protocol.registry.reports import Fault, Report

V = TypeVar("V")

ReadValue = Callable[[object, str], V]
"""Reads a value of a table; it is told where the value stands, for its errors."""


@contextmanager
def reported(where: str, faults: list[Report]) -> Iterator[None]:
    """Turn what can't be read into a report of ``where`` it stands."""
    try:
        yield
    except InputError as error:
        faults.append(Report(where, Fault.MALFORMED, str(error)))


def read_named(
    table: Json, what: str, faults: list[Report], read_value: ReadValue[V]
) -> dict[str, V]:
    """Return a table whose keys are names."""
    found: dict[str, V] = {}
    for key, value in table.items():
        where = f"{what} {key[:64]}"
        with reported(where, faults):
            found[key] = read_value(value, where)
    return found


def read_identified(
    table: Json, what: str, faults: list[Report], read_value: ReadValue[V]
) -> dict[bytes, V]:
    """Return a table whose keys are the hex digits of 32 bytes; reports name the first of them."""
    found: dict[bytes, V] = {}
    for key, value in table.items():
        where = f"{what} {key[:SHORT_ID_DIGITS]}"
        with reported(where, faults):
            found[from_hex(key, where)] = read_value(value, where)
    return found


def one(read_statement: Callable[[Reader], S]) -> ReadValue[Record[S]]:
    """Return what reads a record whose statement ``read_statement`` reads."""
    return lambda value, where: read_record(value, where, read_statement)


def latest(count: int, read_statement: Callable[[Reader], S]) -> ReadValue[tuple[Record[S], ...]]:
    """Return what reads a list of records, newest last, of which the last ``count`` are kept."""

    def read(values: object, where: str) -> tuple[Record[S], ...]:
        if not isinstance(values, list):
            raise InputError("its history must be a list")
        return tuple(read_record(value, where, read_statement) for value in values[-count:])

    return read
