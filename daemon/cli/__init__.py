"""The ``dreamer`` command: a thin face of the daemon's API (``import`` alone works by itself).

``entry`` runs it and reports mistakes, ``command`` gives every command ``--home`` and ``--json``,
``session`` is what a command prints through, ``meter`` shows progress, ``tables`` lays results out.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from dreamer.daemon.cli.entry import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
