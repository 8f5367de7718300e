from __future__ import annotations

from pathlib import Path

import pytest

from dreamer.daemon.config_file import default_config_text
from dreamer.protocol.errors import InputError
from dreamer.protocol.tracker_limits import TRACKER_SOCKETS_PER_ADDRESS
from dreamer.tracker.config import Given, resolve


def test_command_line_beats_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "tracker.toml"
    file.write_text('[tracker]\nlisten = "0.0.0.0:3"\ndata = "/file"\n')
    environ = {"DREAMER_TRACKER_LISTEN": "127.0.0.1:2"}
    assert resolve(Given("[::1]:1", "d", config=file), environ).host == "::1"
    found = resolve(Given(config=file), environ)
    assert (found.port, found.data) == (2, Path("/file"))
    assert resolve(Given(config=file), {}).host == "0.0.0.0"
    assert resolve(Given(data="d"), {}).port == 8470


def test_the_nodes_own_config_file_serves_the_tracker_too(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(default_config_text())
    assert resolve(Given(data="d", config=file), {}).port == 8470


def test_rooms_and_names_are_lists_with_commas_outside_the_file(tmp_path):
    one, two = "ab" * 32, "cd" * 32
    file = tmp_path / "tracker.toml"
    file.write_text(f'[tracker]\nrooms = ["{one}", "{two}"]\nnames = ["T.lab:8470"]\n')
    terms = resolve(Given(data="d", config=file), {}).terms
    assert terms.rooms == {bytes.fromhex(one), bytes.fromhex(two)}
    assert terms.names == {"t.lab:8470"}
    given = Given(data="d", rooms=f"{one}, {two}", config=file)
    assert resolve(given, {"DREAMER_TRACKER_NAMES": "a, b:1"}).terms.names == {"a", "b:1"}
    assert resolve(given, {}).terms == terms
    with pytest.raises(InputError, match="a room in rooms must be 64 lower-case hex"):
        resolve(Given(data="d", rooms="lab"), {})


def test_sockets_per_address_is_a_number_wherever_it_is_set(tmp_path):
    file = tmp_path / "tracker.toml"
    file.write_text("[tracker]\nsockets_per_address = 7\n")
    environ = {"DREAMER_TRACKER_SOCKETS_PER_ADDRESS": "8"}
    assert resolve(Given(data="d"), {}).sockets_per_address == TRACKER_SOCKETS_PER_ADDRESS
    assert resolve(Given(data="d", config=file), {}).sockets_per_address == 7
    assert resolve(Given(data="d", config=file), environ).sockets_per_address == 8
    assert resolve(Given(data="d", sockets_per_address="0"), environ).sockets_per_address == 0
    for wrong in ("-1", "many"):
        with pytest.raises(InputError, match="0 for no limit"):
            resolve(Given(data="d", sockets_per_address=wrong), {})


@pytest.mark.parametrize(
    "text",
    [
        "listen = 'x'",
        "[trakcer]",
        "[tracker]\nlistne = 'x'",
        "[tracker]\nlisten = 5",
        "[tracker]\nrooms = 'x'",
        "[tracker]\nnames = [1]",
        "not toml",
        "[tracker]\ndata = [",
    ],
)
def test_file_with_a_mistake_is_refused_by_name(tmp_path, text):
    file = tmp_path / "tracker.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"tracker\.toml"):
        resolve(Given(data="d", config=file), {})


@pytest.mark.parametrize("listen", ["80", ":80", "host:", "host:x", "host:70000", "host:-1"])
def test_address_that_is_none_is_refused(listen):
    with pytest.raises(InputError, match="HOST:PORT"):
        resolve(Given(listen, "d"), {})


def test_missing_file_and_missing_data_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="can't read"):
        resolve(Given(data="d", config=tmp_path / "none"), {})
    with pytest.raises(InputError, match="--data DIR"):
        resolve(Given(), {})
