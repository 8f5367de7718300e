"""Where other libraries are told to keep what they download."""

from __future__ import annotations

from pathlib import Path

from dreamer.daemon.worker.cache_places import cache_variables

MODELS, HOME = Path("/volume/models"), Path("/home/ada")


def test_caches_of_other_libraries_lie_beside_the_models():
    found = cache_variables(MODELS, HOME, {})
    assert found["HF_HOME"] == "/volume/models/caches/huggingface"
    assert found["HF_HUB_CACHE"] == "/volume/models/caches/huggingface/hub"
    assert found["TORCH_HOME"] == "/volume/models/caches/torch"
    assert "TRANSFORMERS_CACHE" not in found
    assert "XDG_CACHE_HOME" not in found


def test_token_stays_off_the_volume_that_others_may_read():
    assert cache_variables(MODELS, HOME, {})["HF_TOKEN_PATH"] == (
        "/home/ada/.cache/huggingface/token"
    )
    own = cache_variables(MODELS, HOME, {"HF_HOME": "/data/hf"})
    assert own["HF_TOKEN_PATH"] == "/data/hf/token"


def test_asking_twice_gives_the_same():
    once = cache_variables(MODELS, HOME, {})
    assert cache_variables(MODELS, HOME, once) == once
