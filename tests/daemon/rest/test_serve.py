import socket
import stat

import pytest
from in_memory.node import MemoryNode

from dreamer.daemon.rest import local_socket
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.local_socket import connect, listen
from dreamer.daemon.rest.serve import load_token, serving
from dreamer.protocol.errors import LocalError


def test_socket_is_for_its_owner_only(served):
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.socket.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "directory"), [(0o660, 0o750), (0o620, 0o750), (0o600, 0o700)])
def test_directory_of_the_socket_opens_to_whom_the_socket_does(tmp_path, mode, directory):
    path = tmp_path / "run" / "dreamerd.sock"
    path.parent.mkdir(mode=0o700)
    listen(path, mode).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == directory
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_directory_of_the_socket_closes_again_with_the_setting(tmp_path):
    path = tmp_path / "run" / "dreamerd.sock"
    listen(path, 0o660).close()
    listen(path, 0o600).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_socket_file_is_gone_after_stopping(tmp_path, served):
    served.stop()
    served.stop = lambda: None
    assert not served.socket.exists()


def test_socket_of_a_dead_daemon_is_replaced(tmp_path):
    path = tmp_path / "run" / "dreamerd.sock"
    listen(path, 0o600).close()
    assert path.exists()
    end = listen(path, 0o600)
    connect(path, 1.0).close()
    end.close()


def test_socket_of_a_live_daemon_is_left_alone(served):
    with pytest.raises(LocalError, match="another dreamerd"):
        listen(served.socket, 0o600)
    assert served.json("GET", "/status")[0] == 200


def test_file_in_the_way_is_not_removed(tmp_path):
    path = tmp_path / "dreamerd.sock"
    path.write_text("precious")
    with pytest.raises(LocalError, match="not a socket"):
        listen(path, 0o600)
    assert path.read_text() == "precious"


def test_home_with_a_very_long_path_works_for_both_sides(tmp_path):
    path = tmp_path / ("d" * 100) / ("e" * 100) / "run" / "dreamerd.sock"
    end = listen(path, 0o600)
    near = connect(path, 1.0)
    far, _ = end.accept()
    near.sendall(b"x")
    assert far.recv(1) == b"x"
    for one in (near, far, end):
        one.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_long_path_without_proc_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(local_socket, "_DESCRIPTORS", tmp_path / "no-proc")
    with pytest.raises(LocalError, match="choose a home whose path has at most 85 bytes"):
        listen(tmp_path / ("d" * 120) / "dreamerd.sock", 0o600)


async def test_port_that_is_taken_is_a_clear_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(LocalError, match=r"change \[api\] listen"):
            async with serving(make_app(MemoryNode()), tmp_path / "s.sock", tcp=address):
                pass
    assert not (tmp_path / "s.sock").exists()


def test_token_is_made_once_and_kept_secret(tmp_path):
    path = tmp_path / "identity" / "api-token"
    token = load_token(path)
    assert len(token) >= 32
    assert load_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "api-token"
    path.write_text("open")
    path.chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600"):
        load_token(path)


def test_empty_token_is_refused(tmp_path):
    path = tmp_path / "api-token"
    path.touch(mode=0o600)
    with pytest.raises(LocalError, match="is empty"):
        load_token(path)
