"""A team's machines on one: tracker, S3 server and nodes as real processes on 127.0.0.1.

Used by the demo, the benchmarks and the end-to-end tests. Every process is ended by its own id
when its context closes, and what it said is kept in a log file beside its home.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 300.0
POLL_S = 0.02

S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "loopback",
    "AWS_SECRET_ACCESS_KEY": "loopback-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}

NO_S3_CREDENTIALS = {
    # Empty counts as absent to boto3; none of this machine's own are found either.
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_SESSION_TOKEN": "",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""For the environment of a ``Node`` that shall have no S3 credentials."""


class LoopbackError(RuntimeError):
    """A process did not start, or a command failed that should not have."""


def program(name: str) -> str:
    """Return the path of a command installed beside this Python."""
    return str(Path(sys.executable).parent / name)


@dataclass
class Process:
    """A running program whose output goes to ``log``."""

    argv: list[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: str) -> re.Match[str]:
        """Start it and wait until its log matches ``ready``; return the match."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            said = self.log.read_bytes()[before:].decode(errors="replace")
            if found := re.search(ready, said):
                return found
            if self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        self.kill()
        raise LoopbackError(f"{self.argv[0]} did not start:\n{said}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) without waiting."""
        self.send(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end; return the exit status.

        Raises:
            LoopbackError: it took longer than ``timeout_s``.
        """
        assert self._process is not None, "not started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LoopbackError(f"{self.argv[0]} did not stop within {timeout_s} s") from None

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask it to end and wait; a process that does not is killed and reported."""
        self.terminate()
        try:
            return self.wait()
        finally:
            self.kill()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.stop()


def free_port() -> int:
    """Return a port that was free on 127.0.0.1 a moment ago, for programs that must be told one.

    Free for TCP and UDP: a TURN server listens on both.
    """
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


@contextmanager
def tracker(
    data: Path, listen: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run ``dreamer-tracker``; yields its URL."""
    argv = [program("dreamer-tracker"), "--listen", listen, "--data", str(data)]
    with Process(argv, data.parent / f"{data.name}.log", env or {}) as process:
        yield process.start(r"(?m)^(https?://\S+)$").group(1)


@contextmanager
def turn_server(binary: str, log: Path, secret: str, *options: str) -> Iterator[str]:
    """Run coturn with credentials by shared secret; yields the URI of its TURN server.

    Between machines on loopback it must relay to loopback, which no other coturn ever should.
    """
    port = free_port()
    argv = [
        *(binary, "-n", "--realm=dreamer", "--use-auth-secret", f"--static-auth-secret={secret}"),
        *("--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}"),
        *("--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--verbose"),
        *("--log-file=stdout", f"--pidfile={log}.pid", f"--userdb={log}.db", *options),
    ]
    with Process(argv, log) as process:
        process.start(rf"IPv4\. UDP listener opened on: 127\.0\.0\.1:{port}")
        yield f"turn:127.0.0.1:{port}?transport=udp"


@contextmanager
def s3_server(log: Path, bucket: str) -> Iterator[str]:
    """Run moto's S3 server with one empty bucket; yields its endpoint URL."""
    argv = [program("moto_server"), "-H", "127.0.0.1", "-p", "0"]
    with Process(argv, log) as process:
        url = process.start(r"Running on (http://127\.0\.0\.1:\d+)").group(1)
        _make_bucket(url, bucket)
        yield url


def s3_client(url: str) -> Any:
    """Return a boto3 client for the loopback S3 server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=S3_CREDENTIALS["AWS_DEFAULT_REGION"],
        aws_access_key_id=S3_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def _make_bucket(url: str, bucket: str) -> None:
    client = s3_client(url)
    client.create_bucket(Bucket=bucket)
    client.close()


@dataclass
class Answer:
    """What a ``dreamer`` command said: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


class Node:
    """A ``dreamerd`` with its home, and the ``dreamer`` command for it."""

    def __init__(self, home: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.env = {**S3_CREDENTIALS, "DREAMER_NODE_NAME": home.name, **(env or {})}
        argv = [program("dreamerd"), "--home", str(home), *options]
        self.process = Process(argv, home.parent / f"{home.name}.log", self.env)

    def start(self) -> Node:
        """Start the daemon; returns once it accepts commands."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.process.start(r"dreamerd is ready")
        return self

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """Start a ``dreamer`` command and leave it running."""
        return subprocess.Popen(
            [program("dreamer"), "--home", str(self.home), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
        )

    def try_dreamer(self, *args: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a ``dreamer`` command to its end, whatever that is."""
        with self.begin(*args) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Answer(process.returncode, out, err)

    def dreamer(self, *args: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Run a ``dreamer`` command with ``--json``; return the document.

        Raises:
            LoopbackError: the command failed.
        """
        answer = self.try_dreamer(*args, "--json", timeout_s=timeout_s)
        if answer.status != 0:
            raise LoopbackError(f"dreamer {' '.join(args)}: {answer.out}{answer.err}")
        return answer.json

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.__exit__(kind, error, trace)


def until(happened: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait until ``happened()``.

    Raises:
        LoopbackError: it did not within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            raise LoopbackError(f"{what} did not happen within {timeout_s} s")
        time.sleep(POLL_S)
