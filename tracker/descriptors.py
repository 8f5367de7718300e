"""How many connections the system lets this process have: each is an open file."""

from __future__ import annotations

import contextlib
import sys


def allow_all() -> None:
    """Raise the soft limit on open files to the hard one, as a server should.

    The soft limit is 1024 on most systems, for programs that use ``select``; we don't.
    """
    if sys.platform == "win32":
        return
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where there is no hard limit, the kernel has one all the same, and says so (macOS).
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
