import pytest

from dreamer.daemon.worker.settling import settle


@pytest.fixture
def environ(tmp_path):
    """Sets variables of the environment for the daemon of ``tmp_path``."""

    def give(**variables):
        settled = settle(str(tmp_path), None, variables)
        return settled.config, settled.places

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


def test_worker_and_models_can_be_set_by_the_environment(environ):
    config, _ = environ(
        DREAMER_WORKER_KIND="ephemeral",
        DREAMER_WORKER_GRACE_S="120",
        DREAMER_MODELS_PRELOAD="prod-v2, tag:tokenizer",
        DREAMER_MODELS_FOLLOW="true",
    )
    assert (config.worker.kind, config.worker.grace_s) == ("ephemeral", 120.0)
    assert (config.models.preload, config.models.follow) == (("prod-v2", "tag:tokenizer"), True)
