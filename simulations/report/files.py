"""A report in a folder: the page, its pictures, and the figures for notebooks.

::

    FOLDER/report.html     the page; needs nothing beside it
    FOLDER/pictures/       each picture as .svg and .png
    FOLDER/result.json     everything, for `dreamer-sim compare` (``record.py``)
    FOLDER/nodes.csv       a line for each machine, for each pull, for each step of time:
    FOLDER/pulls.csv       their columns are said in ``spreadsheets.py``
    FOLDER/traffic.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreamer.protocol.errors import DiskError
from dreamer.simulations.report.canvas import require_pictures
from dreamer.simulations.report.compare import Comparison
from dreamer.simulations.report.page import comparison_page, page
from dreamer.simulations.report.pictures import CostBar, Picture, overlaid_completion, pictures
from dreamer.simulations.report.record import RESULT_FILE, as_document, read_result, to_json
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.report.spreadsheets import nodes_csv, pulls_csv, traffic_csv

__all__ = [
    "as_document",
    "read_result",
    "require_pictures",
    "to_json",
    "write_comparison",
    "write_report",
]


def write_report(result: RunResult, folder: Path, costs: Sequence[CostBar] = ()) -> Path:
    """Write the report of a run into ``folder``, over an earlier one; return the page's path.

    The figures are written first: where pictures can't be drawn, an hour's run is not lost.

    Raises:
        DiskError: the folder can't be written, or the disk is full.
        InputError: matplotlib is not installed; result.json and the CSV files are there.
    """
    _write(folder / RESULT_FILE, to_json(result))
    for name, text in (
        ("nodes.csv", nodes_csv(result)),
        ("pulls.csv", pulls_csv(result)),
        ("traffic.csv", traffic_csv(result)),
    ):
        _write(folder / name, text.encode())
    shown = pictures(result, costs)
    _write_pictures(shown, folder / "pictures")
    # Last: whoever sees the page has all that it speaks of.
    return _write(folder / "report.html", page(result, shown).encode())


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write two runs beside each other into ``folder``; return the page's path.

    Raises:
        DiskError: the folder can't be written, or the disk is full.
        InputError: matplotlib is not installed.
    """
    shown = [overlaid_completion(comparison.a, comparison.b)]
    _write_pictures(shown, folder / "pictures")
    return _write(folder / "comparison.html", comparison_page(comparison, shown).encode())


def _write_pictures(shown: Sequence[Picture], folder: Path) -> None:
    for picture in shown:
        _write(folder / f"{picture.name}.svg", picture.svg().encode())
        _write(folder / f"{picture.name}.png", picture.png())
    # A picture of an earlier run would pass for one of this.
    ours = {picture.name for picture in shown}
    for name in _ALL_PICTURES:
        if name not in ours:
            for ending in ("svg", "png"):
                _remove(folder / f"{name}.{ending}")


_ALL_PICTURES = ("completion", "lanes", "origin", "relay", "load", "costs")


def _write(path: Path, data: bytes) -> Path:
    """Write a file at once or not at all: an earlier one stays if this one can't be written."""
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise _refused(path, error) from error
    return path


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"can't write {path}: {error.strerror or error}",
        "make room there, or name another folder with --out",
    )
