"""``dreamer export …``: what this node knows, as a document for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.command import command, group
from dreamer.daemon.cli.session import Session
from dreamer.protocol.errors import LocalError

RoomOption = Annotated[
    str | None,
    typer.Option("--room", metavar="NAME", help="The room; not needed when there is one."),
]


def topology(
    session: Session,
    room: RoomOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to; else stdout.")
    ] = None,
) -> None:
    """A room as this node knows it, for 'dreamer-sim whatif'; no names or addresses of nodes."""
    found = session.client.topology(room)
    text = json.dumps(found, indent=2) + "\n"
    if output is None:
        session.write(text)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise LocalError(f"can't write {output}: {error.strerror}; choose another FILE") from error
    said = {"path": str(output), "members": len(found["members"]), "models": len(found["models"])}
    session.show(
        said,
        lambda: (
            f"{output}: {said['members']} members, {said['models']} models; "
            f"ask it something with: dreamer-sim whatif --from-node {output}"
        ),
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    exports = group("What this node knows, as a document for other programs.")
    command(exports, "topology")(topology)
    app.add_typer(exports, name="export")
