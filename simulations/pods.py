"""A worker as a cluster starts it: nothing but an environment, and a home that nobody can write."""

from __future__ import annotations

from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import S3_CREDENTIALS, Node, Process, program


class Pod(Node):
    """A ``dreamerd`` whose home lies below a file, where no directory can be made.

    What it writes goes to ``tmp``, beside its log in ``root``; ``env`` is the pod's.
    """

    def __init__(self, root: Path, name: str, **env: str) -> None:
        self.tmp = root / f"{name}-tmp"
        self.tmp.mkdir(parents=True, exist_ok=True)
        blocked = root / "blocked"
        blocked.write_text("no directory")
        super().__init__(blocked / name)
        self.env = {
            **S3_CREDENTIALS,
            "DREAMER_NODE_NAME": name,
            "DREAMER_HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            # The first place that is tried, if this machine's session has one.
            "XDG_RUNTIME_DIR": "",
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            **env,
        }
        self.process = Process([program("dreamerd")], root / f"{name}.log", self.env)

    def start(self, ready: str = "dreamerd is ready") -> Pod:
        """Start it; by default until it is ready, else until its log matches."""
        self.process.start(ready)
        return self

    @property
    def client(self) -> Dreamer:
        """The client of the daemon where it lives now."""
        (home,) = self.left_over()
        return Dreamer(home)

    def log(self) -> str:
        """Return what it has said."""
        return self.process.log.read_text()

    def left_over(self) -> list[Path]:
        """Return the homes of sessions in its temporary directory."""
        return list(self.tmp.glob("dreamer-*"))
