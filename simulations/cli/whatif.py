"""``dreamer-sim whatif``: a real room, as its nodes have recorded it, with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import command

_ADDED = "So many more machines that"


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "whatif")(whatif)


def whatif(
    session: Session,
    from_node: Annotated[
        str,
        typer.Option(
            metavar="URL|SOCKET|FILE",
            help="A daemon's REST address or socket, or what 'dreamer export topology' wrote.",
        ),
    ],
    room: Annotated[str | None, typer.Option(metavar="NAME", help="Which of its rooms.")] = None,
    token: Annotated[
        str, typer.Option(envvar="DREAMER_API_TOKEN", help="For an http address.")
    ] = "",
    pull: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model that all pull.")
    ] = None,
    more_seeders: Annotated[int, typer.Option(min=0, help=f"{_ADDED} hold it.")] = 0,
    newcomers: Annotated[int, typer.Option(min=0, help=f"{_ADDED} pull it.")] = 0,
    relay_budget_mib: Annotated[
        int | None, typer.Option(min=0, help="Another TURN budget for each machine.")
    ] = None,
    cache_gb: Annotated[float | None, typer.Option(min=0, help="Other room for models.")] = None,
    mbit: Annotated[
        float, typer.Option(min=0.001, help="Rate of machines of which none was measured.")
    ] = 100.0,
    seed: Annotated[int, typer.Option(min=0, metavar="S")] = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the reports with pictures there.")
    ] = None,
) -> None:
    """Ask what more seeders, another TURN budget or a bigger cache would change in a real room."""
    from dreamer.simulations.whatif import run as asking

    changes = asking.Changes(
        pull=pull,
        more_seeders=more_seeders,
        relay_budget_mib=relay_budget_mib,
        cache_gb=cache_gb,
        newcomers=newcomers,
    )
    answer = asking.whatif(
        from_node,
        changes,
        room=room,
        token=token,
        mbit=mbit,
        seed=seed,
        out=out,
        report=session.say,
    )
    session.show(asking.answer_document(answer), lambda: asking.answer_table(answer))
