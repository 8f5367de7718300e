"""``dreamer import``, ``push``, ``pull``, ``torrent``, ``run``: the commands that take a while."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from dreamer.daemon.cli import tables
from dreamer.daemon.cli.arguments import Ref, RoomOption
from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.meter import metering
from dreamer.daemon.cli.plain_text import printable
from dreamer.daemon.cli.provenance import given_provenance
from dreamer.daemon.cli.session import Session
from dreamer.daemon.ports import Progress
from dreamer.daemon.rest.json_form import run_json, to_json
from dreamer.daemon.surfaces.inference import Prefer, RunEnded, RunEvent, RunStarted, RunText
from dreamer.daemon.surfaces.pushing import OriginWait
from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
)

R = TypeVar("R")


def import_model(
    session: Session,
    model: Annotated[Path, typer.Argument(metavar="MODEL.gguf", help="A Llama-type GGUF file.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The directory to make.")],
) -> None:
    """Turn a GGUF file into a directory that can be pushed and run."""
    # Loads onnx and numpy: a second that no other command should wait for.
    from dreamer.daemon.inference.gguf import import_gguf

    with metering("import") as show:
        report = import_gguf(
            model, output, lambda phase, done, total: show(Progress(phase, done, total))
        )
    value = dataclasses.asdict(report)
    session.show(value, lambda: tables.tree({"imported to": str(output), **value}))


def push(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or directory.")],
    room: Annotated[str, typer.Option(metavar="NAME", help="The room to publish it to.")],
    alias: Annotated[
        list[str] | None, typer.Option("--alias", metavar="A", help="Repeatable.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="T", help="Repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name, else that of PATH.")] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Carry pickles too; they can run any code when loaded."
        ),
    ] = False,
    public: Annotated[
        bool,
        typer.Option("--public", help="Give it to anybody: any BitTorrent client can fetch it."),
    ] = False,
    wait_origin: Annotated[
        bool,
        typer.Option("--wait-origin", help="Wait until the room's S3 has all of it."),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Don't wait for the upload to S3, which goes on by itself."),
    ] = False,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="What to know of it.")] = None,
    trained_from: Annotated[
        list[str] | None,
        typer.Option("--trained-from", metavar="REF", help="A model of the room; repeatable."),
    ] = None,
    trained_by: Annotated[
        str | None, typer.Option("--trained-by", metavar="WHO", help="A person or a job.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME=NUMBER", help="Repeatable.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="NAME=VALUE", help="How it was trained; repeatable."),
    ] = None,
) -> None:
    """Publish a model to a room."""
    if wait_origin and no_wait:
        raise InputError("--wait-origin and --no-wait contradict each other: give one of them")
    wait: OriginWait = "done" if wait_origin else "no" if no_wait else "try"
    events = session.client.push_events(
        *(path, room, alias or (), tag or (), name, allow_pickle, public, note),
        *(given_provenance(trained_by, metric or (), config or ()), trained_from or ()),
        wait=wait,
    )
    receipt = last("push", events)
    session.show(to_json(receipt), lambda: tables.push_receipt(receipt))


def pull(
    session: Session,
    ref: Ref,
    room: RoomOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Lay the model out here.")
    ] = None,
) -> None:
    """Fetch a model: from peers first, from the room's S3 last."""
    receipt = last("pull", session.client.pull_events(ref, room, output))
    session.show(to_json(receipt), lambda: tables.pull_receipt(receipt))


def torrent(
    session: Session,
    ref: Ref,
    room: RoomOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write, else one beside the model."),
    ] = None,
) -> None:
    """Write a model's torrent file; nothing is published or seeded."""
    receipt = last("torrent", session.client.torrent_events(ref, room, output))
    session.show(to_json(receipt), lambda: tables.torrent_receipt(receipt))


def run(
    session: Session,
    ref: Ref,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT")],
    room: RoomOption = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, max=GENERATE_MAX_TOKENS, help="The longest answer.")
    ] = 256,
    where: Annotated[
        Prefer,
        typer.Option(help="This machine, a peer, whichever is best, or two at once: the fastest."),
    ] = "auto",
    temperature: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="0 takes the likeliest token each time.")
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed draws the same tokens.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before it; repeatable.")
    ] = None,
) -> None:
    """Run a model on a prompt and print what it says."""
    # Under --json the text is held back for the one document.
    heard: list[RunEvent] = []
    asked = {"temperature": temperature, "seed": seed, "stop": stop or []}
    run_events = session.client.run_events(ref, prompt, room, max_tokens, where, **asked)
    with closing(run_events) as events:
        for event in events:
            heard.append(event)
            _tell(session, event)
    if session.as_json:
        session.show(run_json(heard), str)


def _tell(session: Session, event: RunEvent) -> None:
    match event:
        case RunStarted():
            session.say(f"running on {event.node_name} ({event.node[:8]}, {event.where})")
        case RunText() if not session.as_json:
            session.write(printable(event.text))
        case RunEnded():
            if not session.as_json:
                session.write("\n")
            session.say(
                f"{event.completion_tokens} tokens in {event.seconds:.1f} s, the first after "
                f"{event.first_token_s:.2f} s ({event.finish_reason})"
            )


def last(what: str, events: Generator[Progress | R, None, None]) -> R:
    """Show the progress of long work and return its receipt."""
    with closing(events), metering(what) as show:
        for event in events:
            if not isinstance(event, Progress):
                return event
            show(event)
    raise LocalProtocolError(f"the {what} ended without a receipt: see the daemon's log")


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "import")(import_model)
    command(app, "push")(push)
    command(app, "pull")(pull)
    command(app, "torrent")(torrent)
    command(app, "run")(run)
