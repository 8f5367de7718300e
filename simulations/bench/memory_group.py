"""A bound on the memory of a benchmark, page cache included: as if the models were larger than it.

Without one, what is written goes to memory that nobody has used for a while. A virtual machine
may have given such memory back to its host, and then pays for each new page ten times what the
same page costs once it is its own: more than all the rest of a transfer, and never twice the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer.simulations.bench.contenders.ends import MIB

_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = ((_GROUPS / "memory", "memory.limit_in_bytes"), (_GROUPS, "memory.max"))
"""Where control groups are made and the file that bounds one, in version 1 and in version 2."""


@contextmanager
def bounded_memory(mib: int) -> Iterator[None]:
    """Have this process and those that it starts share ``mib`` MiB (Linux, root).

    Raises:
        OSError: not allowed, or there are no control groups of memory here.
    """
    base, limit = next((each for each in _LIMITS if each[0].is_dir()), _LIMITS[-1])
    group = base / f"dreamer-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(mib * MIB))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (base / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
