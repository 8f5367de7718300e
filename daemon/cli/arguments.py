"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Ref = Annotated[
    str, typer.Argument(metavar="REF", help="An alias, tag:NAME, or the start of an id.")
]
RoomOption = Annotated[
    str | None,
    typer.Option("--room", metavar="NAME", help="The room; not needed when there is one."),
]
Alias = Annotated[str, typer.Argument(metavar="ALIAS")]
