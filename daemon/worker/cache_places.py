"""Where other libraries keep what they download, moved onto the volume with the models.

Each variable is one that its library documents:

- HF_HOME, HF_HUB_CACHE, HF_XET_CACHE, HF_TOKEN_PATH: huggingface_hub, "Environment variables".
  HF_HOME holds the user's token, too, unless HF_TOKEN_PATH names another place: it stays where it
  is, since a volume may be shared. TRANSFORMERS_CACHE is deprecated in favour of HF_HUB_CACHE.
- TORCH_HOME: torch.hub, ``get_dir``: models lie in $TORCH_HOME/hub.
- SENTENCE_TRANSFORMERS_HOME: SentenceTransformer, argument ``cache_folder``.
- OLLAMA_MODELS: Ollama's FAQ; it is the server that has to see it.

XDG_CACHE_HOME is left alone: it would move the caches of every program.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CACHES = "caches"
"""The directory of a store that is other libraries' and that the store leaves alone."""


def cache_variables(models_dir: Path, home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables and values; ``home`` is the user's own directory, not the daemon's."""
    caches = models_dir / CACHES
    places = {
        "HF_HOME": caches / "huggingface",
        "HF_HUB_CACHE": caches / "huggingface" / "hub",
        "HF_XET_CACHE": caches / "huggingface" / "xet",
        "HF_TOKEN_PATH": _token(home, environ),
        "TORCH_HOME": caches / "torch",
        "SENTENCE_TRANSFORMERS_HOME": caches / "sentence-transformers",
        "OLLAMA_MODELS": caches / "ollama",
    }
    return {name: str(place) for name, place in places.items()}


def _token(home: Path, environ: Mapping[str, str]) -> Path:
    if given := environ.get("HF_TOKEN_PATH"):
        return Path(given)
    general = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environ.get("HF_HOME") or general / "huggingface") / "token"
