"""The command ``dreamer-sim`` (``import`` alone works by itself; a run needs no picture library).

``entry`` runs it and reports mistakes, ``command`` gives every command ``--json``, and each of the
others is a command or two; what they print goes through ``dreamer.daemon.cli.session``.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from dreamer.simulations.cli.entry import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
