"""``dreamer connect``: link two machines with no tracker, by texts that people carry."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dreamer.daemon.cli import qr, tables
from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.session import Session
from dreamer.daemon.ports import MeetingText, PeerInfo
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import CONNECT_TEXT_MAX_CHARS

STDIN = "-"


def connect(
    session: Session,
    offer: Annotated[
        bool, typer.Option("--offer", help="Begin: print a text for the other machine.")
    ] = False,
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Go on with the text from the other machine, offer or answer; - reads stdin.",
        ),
    ] = None,
    room: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The room, with --offer; not needed when there is one."),
    ] = None,
    qr_code: Annotated[
        bool | None,
        typer.Option("--qr/--no-qr", help="Show a QR code too. Default: on a terminal."),
    ] = None,
) -> None:
    """Link two machines of a room with no tracker: --offer on one, --answer on both."""
    if offer == (answer is not None):
        raise typer.BadParameter("give either --offer or --answer TEXT")
    if room is not None and not offer:
        raise typer.BadParameter("--room goes with --offer: a text knows its room")
    if offer:
        _offer(session, room, qr_code)
    else:
        assert answer is not None
        _take(session, _typed() if answer == STDIN else answer, qr_code)


def _offer(session: Session, room: str | None, qr_code: bool | None) -> None:
    made = session.client.offer_link(room)
    _show_text(session, made)
    minutes = f"{made.expires_s / 60:.0f} minutes"
    session.say(
        f"On the other machine, which must be in room {made.room}, run within {minutes}: "
        "dreamer connect --answer TEXT"
    )
    if session.as_json or not sys.stdin.isatty():
        session.say("Then, on this one: dreamer connect --answer ITS-ANSWER")
        _show_code(session, made, qr_code)
        return
    session.say("Then paste its answer here and press Enter (Ctrl-C: later, with --answer):")
    _show_code(session, made, qr_code)
    _take(session, _pasted_line(), qr_code)


def _take(session: Session, text: str, qr_code: bool | None) -> None:
    taken = session.client.take_meeting_text(text)
    if isinstance(taken, PeerInfo):
        session.show({"linked": to_json(taken)}, lambda: tables.linked(taken))
        return
    _show_text(session, taken)
    session.say(
        f"Take it to the machine that offered ({(taken.node or '')[:8]}), within "
        f"{taken.expires_s / 60:.0f} minutes: dreamer connect --answer TEXT. The link comes up "
        "by itself then: see 'dreamer peers'"
    )
    _show_code(session, taken, qr_code)


def _show_text(session: Session, made: MeetingText) -> None:
    if session.as_json:
        session.show(to_json(made), str)
        return
    # Alone on its line, for $(…) and for copying; what to do with it is said on stderr.
    session.write(f"{made.text}\n")


def _show_code(session: Session, made: MeetingText, qr_code: bool | None) -> None:
    """Show the QR code, as the last thing: nothing may push it out of a small terminal."""
    wanted = sys.stdout.isatty() if qr_code is None else qr_code
    if wanted and not session.as_json:
        session.write("\n".join(qr.lines(made.text, coloured=sys.stdout.isatty())) + "\n")


def _typed() -> str:
    """Return what stdin holds, as far as it can be a text."""
    text = sys.stdin.read(2 * CONNECT_TEXT_MAX_CHARS + 1)
    if not text.strip():
        raise InputError("stdin holds no text: pipe an offer or an answer into this command")
    return text


def _pasted_line() -> str:
    while line := sys.stdin.readline(2 * CONNECT_TEXT_MAX_CHARS + 1):
        if line.strip():
            return line
    raise InputError("no answer was pasted; when you have it: dreamer connect --answer TEXT")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "connect")(connect)
