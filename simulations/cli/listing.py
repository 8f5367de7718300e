"""``dreamer-sim list``: what can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import command
from dreamer.simulations.scenario import loader

if TYPE_CHECKING:
    from rich.table import Table


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "list")(list_scenarios)


def list_scenarios(session: Session) -> None:
    """List the scenarios that come with Dreamer; run one with: dreamer-sim run NAME."""
    found = [_row(path) for path in loader.committed().values()]
    session.show(found, lambda: _table(found))


def _row(path: Path) -> dict[str, Any]:
    table = loader.parse(path)
    if loader.is_offload(table):
        # Not a swarm: people and GPUs, read by those who simulate them.
        return {"name": path.stem, "about": table["about"], "nodes": None, "models": []}
    scenario = loader.load(path)
    return {
        "name": scenario.name,
        "about": scenario.about,
        "nodes": sum(group.count for group in scenario.groups),
        "models": [{"name": one.name, "size_gb": one.size_gb} for one in scenario.models],
    }


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("name", "nodes", "models", "what it answers", box=None, padding=(0, 2, 0, 0))
    for row in found:
        table.add_row(row["name"], str(row["nodes"] or ""), _models(row["models"]), row["about"])
    return table


def _models(models: list[dict[str, Any]]) -> str:
    total = sum(model["size_gb"] for model in models)
    return f"{len(models)}, {total:g} GB" if models else ""
