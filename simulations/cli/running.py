"""``dreamer-sim run``: one scenario, once, with its figures, pictures and verdict."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import PROGRAM, command
from dreamer.simulations.cli.offloading import run_offload
from dreamer.simulations.scenario import loader
from dreamer.simulations.scenario.bounds import bounds_of
from dreamer.simulations.scenario.model import Scenario

if TYPE_CHECKING:
    from dreamer.simulations.invariants import Watch
    from dreamer.simulations.report.result import RunResult

# typer's bounds are whole; those of a scenario are the same for a file and for an option.
_BLOCK_MIB_MAX = int((bounds_of("Scenario", "block_mib") or (1, 1))[1])

_VIOLATIONS_TOLD = 20

_NodesOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="So many machines that pull, in all.")
]
_SeedOption = Annotated[
    int | None, typer.Option(min=0, metavar="S", help="Another seed than the scenario's.")
]
_BlockOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=_BLOCK_MIB_MAX, metavar="M", help="Blocks of M MiB: coarser is faster."
    ),
]
_OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the report with its pictures there.")
]


@dataclass(frozen=True)
class Asked:
    """Which run: what was named, and what of it was changed."""

    name: str
    nodes: int | None
    seed: int | None
    block_mib: int | None

    def scenario(self) -> Scenario:
        """Return the scenario as it is to be run.

        Raises:
            InputError: there is none of that name, or something in its file is wrong.
        """
        found = loader.load(loader.find(self.name))
        if self.nodes is not None:
            found = loader.scaled(found, self.nodes)
        if self.seed is not None:
            found = replace(found, seed=self.seed)
        if self.block_mib is not None:
            # A model's own block size would else stay as fine as it is.
            models = tuple(replace(model, block_mib=0) for model in found.models)
            found = replace(found, block_mib=self.block_mib, models=models)
        return found

    def replay(self, seed: int) -> str:
        """Return the command that does the same again, whatever becomes of the file's seed."""
        words = [PROGRAM, "run", self.name, "--seed", str(seed)]
        if self.nodes is not None:
            words += ["--nodes", str(self.nodes)]
        if self.block_mib is not None:
            words += ["--block-mib", str(self.block_mib)]
        return shlex.join(words)


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "run")(run)


def run(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME|FILE.toml")],
    nodes: _NodesOption = None,
    seed: _SeedOption = None,
    block_mib: _BlockOption = None,
    out: _OutOption = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Don't look at the invariants: faster.")
    ] = False,
) -> int:
    """Run a scenario: status 1 if an invariant broke or an expected figure was missed."""
    from dreamer.simulations.report import files

    if out is not None:
        # Before hours are spent, not after.
        files.require_pictures()
    if loader.is_offload(loader.parse(loader.find(name))):
        return run_offload(session, loader.find(name), nodes, seed, out)
    result = _run(Asked(name, nodes, seed, block_mib), checked=not unchecked)
    if out is not None:
        session.say(f"report: {files.write_report(result, out)}")
    _show(session, result)
    return 1 if result.violations or result.missed else 0


def _run(asked: Asked, *, checked: bool) -> RunResult:
    from dreamer.simulations.cli.progress import watching
    from dreamer.simulations.engine.outcome import simulate
    from dreamer.simulations.invariants import Watch
    from dreamer.simulations.scenario.expectations import expected, missed

    scenario = asked.scenario()
    invariants = Watch() if checked else Watch(())
    with watching(scenario.name) as watch:
        result = simulate(
            scenario,
            replay=asked.replay(scenario.seed),
            observers=invariants.observers if checked else (),
            watch=watch,
            violations=lambda: _in_words(invariants),
        )
    return replace(
        result,
        checks=invariants.checks,
        expected=expected(scenario),
        missed=missed(scenario, result),
    )


def _in_words(invariants: Watch) -> list[str]:
    said = [str(one) for one in invariants.violations[:_VIOLATIONS_TOLD]]
    if invariants.found > len(said):
        # What breaks once tends to break for every block.
        said.append(f"and {invariants.found - len(said):,} more like these")
    return said


def _show(session: Session, result: RunResult) -> None:
    from dreamer.simulations.report import files
    from dreamer.simulations.report.table import table

    document = files.as_document(result) if session.as_json else None
    session.show(document, lambda: table(result))
