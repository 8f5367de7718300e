import json
from dataclasses import fields
from pathlib import Path

import pytest

from dreamer.daemon.config import SECTIONS, Config
from dreamer.daemon.config_file import default_config_text, load_config, parse_config
from dreamer.daemon.places import find_home, find_places
from dreamer.protocol.errors import InputError

EVERY_KEY = [(section, key.name) for section, kind in SECTIONS.items() for key in fields(kind)]


def test_default_text_parses_back_to_the_defaults():
    assert parse_config(default_config_text(), {}) == Config()


@pytest.mark.parametrize(("section", "key"), EVERY_KEY)
def test_every_key_is_documented_and_has_its_variable(section, key):
    kind = {one.name: one for one in fields(SECTIONS[section])}[key]
    assert kind.metadata["doc"].endswith(".")
    variable = f"DREAMER_{section}_{key}".upper()
    value = kind.default
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    assert parse_config("", {variable: text}) == Config()


def test_values_are_read_from_the_file():
    config = parse_config(
        '[network]\nstun = ["stun:a:1"]\nrelay = "only"\n[inference]\nidle_timeout_s = 60\n', {}
    )
    assert config.network.stun == ("stun:a:1",)
    assert config.network.relay == "only"
    assert config.inference.idle_timeout_s == 60.0


def test_tracker_may_be_limited_to_rooms_and_names():
    room = "ab" * 32
    config = parse_config(f'[tracker]\nrooms = ["{room}"]\nnames = ["t.lab:8470"]\n', {})
    assert (config.tracker.rooms, config.tracker.names) == ((room,), ("t.lab:8470",))
    assert parse_config("", {"DREAMER_TRACKER_ROOMS": room}).tracker.rooms == (room,)


def test_environment_wins_over_the_file():
    environ = {
        "DREAMER_NODE_NAME": "gpu1",
        "DREAMER_INFERENCE_SERVE_PEERS": "yes",
        "DREAMER_NETWORK_TURN": "turn:a, turns:b",
        "DREAMER_HOME": "/elsewhere",
    }
    config = parse_config('[node]\nname = "gpu0"\n[log]\nlevel = "debug"\n', environ)
    assert (config.node.name, config.log.level) == ("gpu1", "debug")
    assert config.inference.serve_peers is True
    assert config.network.turn == ("turn:a", "turns:b")


def test_models_dir_of_the_environment_wins_over_the_file_but_not_over_its_own_variable():
    text = '[node]\nmodels_dir = "/file"\n'
    assert parse_config(text, {"MODELS_DIR": "/env"}).node.models_dir == "/env"
    both = {"MODELS_DIR": "/env", "DREAMER_NODE_MODELS_DIR": "/own"}
    assert parse_config(text, both).node.models_dir == "/own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[node\n", r"my\.toml: .*line 1"),
        ("[nodes]\n", r"no section \[nodes\]; did you mean 'node'"),
        ("zzz = 1\n", r"no section \[zzz\]; it can be: node, api"),
        ("node = 1\n", r"\[node\] must be a section"),
        ("[network]\nrelays = 1\n", r"\[network\] has no key 'relays'; did you mean 'relay'"),
        ("[log]\nzzz = 1\n", r"\[log\] has no key 'zzz'; it can be: level"),
        ("[node]\nname = 5\n", r"\[node\] name must be a string, not 5"),
        ("[inference]\nserve_peers = 1\n", r"serve_peers must be true or false"),
        ("[inference]\nmax_models = true\n", r"max_models must be a whole number"),
        ("[inference]\nmax_models = 0\n", r"max_models must be between 1 and 64, not 0"),
        ("[inference]\nidle_timeout_s = nan\n", r"idle_timeout_s must be a number"),
        ('[network]\ndirect_listen = "8471"\n', r"direct_listen must be empty or HOST:PORT"),
        ('[network]\ndirect_addresses = ["nas:0"]\n', r"direct_addresses must be a list of at"),
        (
            "[inference]\nmax_worker_memory_mib = -1\n",
            r"max_worker_memory_mib must be between 0 and",
        ),
        ('[network]\nrelay = "always"\n', r'relay must be one of "never", "fallback", "only"'),
        ('[network]\nstun = "stun:a"\n', r"stun must be a list of strings"),
        ('[network]\nturn = ["http://a"]\n', r"turn must be a list of URLs that start with turn"),
        ('[api]\nlisten = "0.0.0.0:80"\n', r"listen must be empty or a loopback"),
        ('[api]\nlisten = "localhost"\n', r"listen must be empty or a loopback"),
        ('[api]\nsocket_mode = "0666"\n', r"socket_mode must be an octal mode"),
        ('[api]\nsocket_mode = "600"\n', r"socket_mode must be an octal mode"),
        ('[tracker]\nlisten = "8470"\n', r"listen must be HOST:PORT"),
        ('[tracker]\nlisten = "a:70000"\n', r"listen must be HOST:PORT"),
        ('[tracker]\nrooms = ["lab"]\n', r"rooms must be a list of room ids"),
        ('[torrent]\npublic_rooms = ["lab"]\n', r"public_rooms must be a list of room ids"),
        ('[tracker]\nrooms = "lab"\n', r"rooms must be a list of strings"),
    ],
)
def test_mistake_in_the_file_is_named_with_the_way_out(text, message):
    with pytest.raises(InputError, match=message):
        parse_config(text, {}, "my.toml")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DREAMER_NETWORK_RELAYS", "x", "did you mean 'DREAMER_NETWORK_RELAY'"),
        ("DREAMER_INFERENCE_THREADS", "many", "DREAMER_INFERENCE_THREADS must be a whole number"),
        ("DREAMER_INFERENCE_SERVE_PEERS", "maybe", "must be true or false"),
        ("DREAMER_INFERENCE_THREADS", "-1", r"\[inference\] threads must be between"),
        ("DREAMER_LOG_LEVEL", "loud", r"\[log\] level must be one of"),
    ],
)
def test_mistake_in_the_environment_is_named(variable, value, message):
    with pytest.raises(InputError, match=message):
        parse_config("", {variable: value})


def test_missing_file_means_defaults_unless_it_was_asked_for(tmp_path):
    path = tmp_path / "config.toml"
    assert load_config(path, {}) == Config()
    with pytest.raises(InputError, match="--print-default-config"):
        load_config(path, {}, must_exist=True)


def test_unreadable_file_is_a_clear_error(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="can't be read"):
        load_config(path, {})
    with pytest.raises(InputError, match="can't be read"):
        load_config(tmp_path, {})


def test_home_is_chosen_by_option_then_environment_then_default(monkeypatch):
    assert find_home("/option", {"DREAMER_HOME": "/env"}) == Path("/option")
    assert find_home(None, {"DREAMER_HOME": "/env"}) == Path("/env")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert find_home(None, {}).name == "dreamer"
    assert find_home("relative", {}).is_absolute()


def test_places_lie_below_the_home_but_for_the_models():
    places = find_places(Path("/h"), "")
    assert places.socket == Path("/h/run/dreamerd.sock")
    assert (places.config, places.state) == (Path("/h/config.toml"), Path("/h/state.db"))
    assert places.models_dir == Path("/h/models")
    assert find_places(Path("/h"), "/big").models_dir == Path("/big")


def test_table_of_origins_is_kept_whole_for_the_tracker():
    room, text = "ab" * 32, '{"x": {"url": "s3://models"}}'
    table = f'[tracker.origins.{room}]\nurl = "s3://models/lab"\nendpoint_url = "http://m:9000"\n'
    # Below the defaults as they are printed: nothing there may be in the way.
    whole = default_config_text().replace("\n[inference]", f"\n{table}[inference]")
    found = json.loads(parse_config(whole, {}).tracker.origins)
    assert found == {room: {"url": "s3://models/lab", "endpoint_url": "http://m:9000"}}
    assert parse_config(table, {"DREAMER_TRACKER_ORIGINS": text}).tracker.origins == text
    for wrong in ('[tracker]\norigins = "x"\n', "[tracker]\norigins = 5\n"):
        with pytest.raises(InputError, match="origins must be a table"):
            parse_config(wrong, {})
