"""systemd hears that the daemon is ready, over a socket as sd_notify(3) has it."""

from __future__ import annotations

import os
import secrets
import socket

import pytest

from dreamer.daemon.worker.notify import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """A listening service manager, and the environment that it gives to its service."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(10.0)
        end.bind(name.replace("@", "\0"))
        yield end, {"NOTIFY_SOCKET": name}


def test_service_manager_hears_what_the_daemon_does(manager):
    end, environ = manager
    service = ServiceManager(environ)
    assert environ == {}
    service.status("waiting for\nREADY=1 prod")
    assert end.recv(1000) == b"STATUS=waiting for READY=1 prod"
    service.ready()
    assert end.recv(1000).splitlines()[0] == b"READY=1"
    service.stopping("uploading")
    assert end.recv(1000) == b"STOPPING=1\nSTATUS=uploading"


def test_nobody_listens_and_nothing_fails(tmp_path, caplog):
    ServiceManager({}).ready()
    assert caplog.text == ""
    ServiceManager({"NOTIFY_SOCKET": os.fspath(tmp_path / "gone")}).ready()
    assert "can't tell the service manager" in caplog.text
