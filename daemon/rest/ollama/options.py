"""The ``options`` of a generation, with Ollama's defaults, as this node's sampling has them.

https://github.com/ollama/ollama/blob/main/docs/modelfile.md#valid-parameters-and-values. What is
about loading (``num_gpu``, ``num_thread`` …) is for the node's own settings, and
what other samplers have (``mirostat``, ``typical_p``, ``tfs_z``) is left out: both are ignored,
as Ollama ignores an option that it doesn't know.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.daemon.rest.ollama.fields import Fields
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import GENERATE_MAX_TOKENS, OLLAMA_STOPS_MAX

TEMPERATURE = 0.8
TOP_K = 40
TOP_P = 0.9
REPEAT_PENALTY = 1.1
REPEAT_LAST_N = 64
_ENDLESS, _FILL_CONTEXT = -1, -2
"""What ``num_predict`` is by default, and what says that an answer may fill the context."""

UNDERSTOOD = (
    "frequency_penalty",
    "min_p",
    "num_ctx",
    "num_predict",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)


LEFT_OUT = (
    *("num_batch", "num_gpu", "num_keep", "num_thread", "main_gpu", "numa", "low_vram"),
    *("use_mmap", "use_mlock", "f16_kv", "logits_all", "vocab_only", "embedding_only"),
    *("mirostat", "mirostat_eta", "mirostat_tau", "penalize_newline", "tfs_z", "typical_p"),
    *("rope_frequency_base", "rope_frequency_scale"),
)
"""Options of Ollama's, now or once, that change nothing here."""


@dataclass(frozen=True)
class Options:
    """How an answer is drawn, and where it ends at the latest.

    ``open_ended``: nobody said how long it may be. ``context`` is ``num_ctx``, None if not given.
    """

    sampling: Sampling
    stop: tuple[str, ...]
    max_tokens: int
    open_ended: bool
    context: int | None


def parse(values: Json) -> Options:
    """Read ``options``.

    Raises:
        InputError: one that is understood is of a wrong type or out of range.
    """
    fields = Fields(values, "option")
    stop = tuple(one for one in fields.texts("stop") if one)
    if len(stop) > OLLAMA_STOPS_MAX:
        raise InputError(f"option 'stop' takes at most {OLLAMA_STOPS_MAX} strings")
    wanted, context = fields.whole("num_predict", _ENDLESS), fields.whole("num_ctx", 0)
    options = Options(
        _sampling(fields),
        stop,
        GENERATE_MAX_TOKENS if wanted < 1 else min(wanted, GENERATE_MAX_TOKENS),
        open_ended=wanted < 1 and wanted != _FILL_CONTEXT,
        context=context if context > 0 else None,
    )
    options.sampling.check()
    return options


def check_names(values: Json) -> None:
    """Refuse parameters that a model can't be given, as Ollama has no such option either.

    Of a request's options such are ignored, as Ollama does; written into a model, a misspelt one
    would be missed for ever.

    Raises:
        InputError: there is one.
    """
    unknown = next((name for name in values if name not in (*UNDERSTOOD, *LEFT_OUT)), None)
    if unknown is not None:
        raise InputError(f"unknown parameter {unknown!r:.80}: known are {', '.join(UNDERSTOOD)}")


def _sampling(fields: Fields) -> Sampling:
    last_n = fields.whole("repeat_last_n", REPEAT_LAST_N)
    penalty = fields.number("repeat_penalty", REPEAT_PENALTY)
    seed = fields.whole("seed", -1)
    return Sampling(
        temperature=fields.number("temperature", TEMPERATURE),
        top_p=fields.number("top_p", TOP_P),
        top_k=max(0, fields.whole("top_k", TOP_K)),
        min_p=fields.number("min_p", 0.0),
        # Over no tokens at all, a penalty is none.
        repetition_penalty=penalty if last_n else 1.0,
        repeat_last_n=max(-1, last_n),
        presence_penalty=fields.number("presence_penalty", 0.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0),
        seed=None if seed < 0 else seed,
    )
