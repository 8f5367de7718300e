"""Trackers one after another, each forked from here, so that none spends its life on imports.

Each line on stdin is ``LISTEN DATA``; for each, stdout says ``pid N``, and then the tracker's URL.
"""

from __future__ import annotations

import os
import sys

from dreamer.tracker.main import main

if __name__ == "__main__":
    for line in sys.stdin:
        listen, data = line.split(maxsplit=1)
        if pid := os.fork():
            os.waitpid(pid, 0)
            continue
        sys.argv = ["dreamer-tracker", "--listen", listen, "--data", data.rstrip("\n")]
        sys.stdout.write(f"pid {os.getpid()}\n")
        sys.stdout.flush()
        main()
        os._exit(0)
