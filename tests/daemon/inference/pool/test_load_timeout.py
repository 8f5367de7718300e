"""How long a model may take to load."""

from __future__ import annotations

from dreamer.daemon.chosen import pool_settings
from dreamer.daemon.config_file import parse_config
from dreamer.protocol.inference_limits import INFERENCE_LOAD_MIN_BYTES_S


def test_large_model_may_take_longer_than_the_setting() -> None:
    settings = pool_settings(parse_config("[inference]\nload_timeout_s = 100\n", {}))
    assert settings.load_timeout_of(1_000_000) == 100.0
    assert settings.load_timeout_of(int(200 * INFERENCE_LOAD_MIN_BYTES_S)) == 200.0
