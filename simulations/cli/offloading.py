"""``dreamer-sim run`` for a file about requests and GPUs, which is no swarm."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from dreamer.daemon.cli.session import Session
from dreamer.simulations.scenario import loader
from dreamer.simulations.scenario.tables import read


def run_offload(
    session: Session, path: Path, nodes: int | None, seed: int | None, out: Path | None
) -> int:
    """Run the day of an ``[offload]`` file, with ``nodes`` machines that have GPUs; return 0."""
    from rich.console import Group

    from dreamer.simulations.capacity import study
    from dreamer.simulations.capacity.offload_spec import Offload

    table = loader.parse(path)
    with loader.naming(path.name):
        offload = read(Offload, table["offload"], "offload")
    if nodes is not None:
        offload = replace(offload, gpus=replace(offload.gpus, count=nodes))
    result = study.run_offload(offload, table.get("seed", 1) if seed is None else seed, session.say)
    if out is not None:
        study.write_offload(result, out)
    session.show(asdict(result), lambda: Group(*study.offload_tables(result)))
    return 0
