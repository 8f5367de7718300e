"""A result as JSON, and back: what ``--json`` prints, and what a report keeps for comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dreamer.protocol.errors import InputError
from dreamer.simulations.report.result import RunResult

FORMAT = "dreamer-sim-run"
VERSION = 1
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class _Header:
    format: str = ""
    version: int = 0


def as_document(result: RunResult) -> dict[str, Any]:
    """Return the result as plain values: its own fields, and in front of them what they are.

    ``trace_hash`` is there twice, at the top and with the engine's figures: whoever only checks
    that two runs were the same looks no further.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "trace_hash": result.engine.trace_hash,
        **msgspec.to_builtins(result),
    }


def to_json(result: RunResult) -> bytes:
    """Return the result as one line of JSON."""
    return msgspec.json.encode(as_document(result)) + b"\n"


def from_json(data: bytes, where: str = "this") -> RunResult:
    """Return the result that ``to_json`` wrote; ``where`` it comes from is said in errors.

    Raises:
        InputError: it is not JSON, something else, of a newer version, or damaged.
    """
    try:
        header = msgspec.json.decode(data, type=_Header)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not a run's result: {error}") from error
    if header.format != FORMAT:
        raise InputError(
            f"{where} is not a run's result: name a folder that dreamer-sim run --out wrote, or "
            f"the {RESULT_FILE} in it"
        )
    if header.version != VERSION:
        raise InputError(
            f"{where} is of version {header.version}, this dreamer-sim reads {VERSION}: replay the "
            f"run with this one"
        )
    try:
        result = msgspec.json.decode(data, type=RunResult)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {error}; replay the run") from error
    return _checked(result, where)


def _checked(result: RunResult, where: str) -> RunResult:
    """Refuse what every picture would stumble over."""
    lengths = {len(counts) for counts in result.traffic.by_lane.values()}
    if len(lengths) > 1 or result.traffic.step_s <= 0:
        raise InputError(f"{where} is damaged: its traffic is not in equal steps; replay the run")
    return result


def read_result(path: Path) -> RunResult:
    """Return the result in a JSON file.

    Raises:
        InputError: it can't be read, or is no result of a run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    return from_json(data, str(path))
