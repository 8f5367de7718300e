"""Servers on hosts of their own, which can be killed and started again as they were."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dreamer.simulations.loopback import S3_CREDENTIALS, Process, program
from dreamer.simulations.netlab.iproute import LabError
from dreamer.simulations.netlab.lab import Host

SECRET = "netlab-secret"  # noqa: S105 - of a relay that lives for one test
BUCKET = "models"
STUN_PORT = 3478
TRACKER_PORT = 8470
S3_PORT = 5000
SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "turnserver.conf"
"""The relay's configuration that users are told to take."""


class Service(Protocol):
    """A server that can be killed and started again."""

    def start(self) -> None:
        """Start it; returns when it accepts clients."""
        ...

    def kill(self) -> None:
        """End it at once, as when the machine loses its power."""
        ...


class Relay:
    """coturn as docs/turnserver.conf has it: STUN for anybody, TURN for whom it is lent to."""

    def __init__(self, host: Host, other_address: str, log: Path) -> None:
        self.host = host
        binary = shutil.which("turnserver")
        if binary is None:
            raise LabError("turnserver is missing: install coturn")
        settings = log.with_suffix(".conf")
        settings.write_text(SAMPLE.read_text("utf-8").replace("CHANGE-ME", SECRET))
        argv = [
            *(*host.within, binary, "-c", str(settings), "--verbose", "--log-file=stdout"),
            *(f"--listening-ip={host.address}", f"--listening-ip={other_address}"),
            *(f"--relay-ip={host.address}", f"--pidfile={log}.pid", f"--userdb={log}.db"),
        ]
        self.process = Process(argv, log)

    @property
    def stun(self) -> str:
        """Its URI as a STUN server."""
        return f"stun:{self.host.address}:{STUN_PORT}"

    @property
    def turns(self) -> tuple[str, str]:
        """Its URIs as a TURN server: by UDP, and by TCP for those whose network lets no UDP out."""
        server = f"turn:{self.host.address}:{STUN_PORT}"
        return f"{server}?transport=udp", f"{server}?transport=tcp"

    def start(self) -> None:
        """Start it; allocations of before are gone."""
        self.process.start(rf"IPv4\. UDP listener opened on: {self.host.address}:{STUN_PORT}")

    def kill(self) -> None:
        """End it at once; nobody is told."""
        self.process.kill()


class Tracker:
    """``dreamer-tracker``, which lends a relay where it is given one."""

    def __init__(self, host: Host, data: Path, turns: Sequence[str] = ()) -> None:
        self.host = host
        self.url = f"http://{host.address}:{TRACKER_PORT}"
        secret = data.parent / f"{data.name}-turn-secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
        env = {
            "DREAMER_TRACKER_TURN_URLS": ",".join(turns),
            "DREAMER_TRACKER_TURN_SECRET_FILE": str(secret) if turns else "",
        }
        listen = f"{host.address}:{TRACKER_PORT}"
        argv = [program("dreamer-tracker"), "--listen", listen, "--data", str(data)]
        self.process = Process([*host.within, *argv], data.parent / f"{data.name}.log", env)

    def start(self) -> None:
        """Start it on what it has stored."""
        self.process.start(r"(?m)^(https?://\S+)$")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


class Origin:
    """An S3 server with one bucket."""

    def __init__(self, host: Host, log: Path) -> None:
        self.host = host
        self.url = f"http://{host.address}:{S3_PORT}"
        argv = [program("moto_server"), "-H", host.address, "-p", str(S3_PORT)]
        self.process = Process([*host.within, *argv], log)

    def start(self) -> None:
        """Start it, empty."""
        self.process.start(r"Running on (http://\S+)")
        bucket = f"import boto3; boto3.client('s3', endpoint_url={self.url!r}).create_bucket"
        script = f"{bucket}(Bucket={BUCKET!r})"
        env = [f"{key}={value}" for key, value in S3_CREDENTIALS.items()]
        self.host.run("env", *env, sys.executable, "-c", script)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
