from __future__ import annotations

from pathlib import Path

import pytest

from dreamer.daemon.config_file import default_config_text
from dreamer.protocol.errors import InputError
from dreamer.tracker.config import resolve


def test_command_line_beats_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "tracker.toml"
    file.write_text('[tracker]\nlisten = "0.0.0.0:3"\ndata = "/file"\n')
    environ = {"DREAMER_TRACKER_LISTEN": "127.0.0.1:2"}
    assert resolve("[::1]:1", "d", file, environ).host == "::1"
    found = resolve(None, None, file, environ)
    assert (found.port, found.data) == (2, Path("/file"))
    assert resolve(None, None, file, {}).host == "0.0.0.0"
    assert resolve(None, "d", None, {}).port == 8470


def test_the_nodes_own_config_file_serves_the_tracker_too(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(default_config_text())
    assert resolve(None, "d", file, {}).port == 8470


@pytest.mark.parametrize(
    "text",
    [
        "listen = 'x'",
        "[trakcer]",
        "[tracker]\nlistne = 'x'",
        "[tracker]\nlisten = 5",
        "not toml",
        "[tracker]\ndata = [",
    ],
)
def test_file_with_a_mistake_is_refused_by_name(tmp_path, text):
    file = tmp_path / "tracker.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"tracker\.toml"):
        resolve(None, "d", file, {})


@pytest.mark.parametrize("listen", ["80", ":80", "host:", "host:x", "host:70000", "host:-1"])
def test_address_that_is_none_is_refused(listen):
    with pytest.raises(InputError, match="HOST:PORT"):
        resolve(listen, "d", None, {})


def test_missing_file_and_missing_data_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="can't read"):
        resolve(None, "d", tmp_path / "none", {})
    with pytest.raises(InputError, match="--data DIR"):
        resolve(None, None, None, {})
