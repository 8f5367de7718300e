"""The commands of ``dreamer-sim`` are made as those of ``dreamer`` are, but talk to no daemon."""

from __future__ import annotations

from functools import partial

from dreamer.daemon.cli import command as of_daemon

PROGRAM = "dreamer-sim"

group = partial(of_daemon.group, home=False)
command = partial(of_daemon.command, home=False)
