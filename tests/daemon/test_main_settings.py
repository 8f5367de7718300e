import pytest

from dreamer.daemon.main import _settings


@pytest.fixture
def environ(monkeypatch, tmp_path):
    """Sets variables of the environment for the daemon of ``tmp_path``."""
    for name in ("DREAMER_HOME", "MODELS_DIR", "DREAMER_NODE_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)

    def give(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return _settings(str(tmp_path), None)

    return give


def test_models_lie_in_the_home_by_default(environ, tmp_path):
    config, places = environ()
    assert (config.node.models_dir, places.models_dir) == ("", tmp_path / "models")


def test_models_dir_chooses_the_store(environ, tmp_path):
    _, places = environ(MODELS_DIR=str(tmp_path / "disk"))
    assert places.models_dir == tmp_path / "disk"


def test_own_variable_wins_over_models_dir(environ, tmp_path):
    config, places = environ(MODELS_DIR="/elsewhere", DREAMER_NODE_MODELS_DIR=str(tmp_path / "own"))
    assert config.node.models_dir == str(tmp_path / "own")
    assert places.models_dir == tmp_path / "own"
