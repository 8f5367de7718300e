import pytest

from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.daemon.rest.ollama.options import parse
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import GENERATE_MAX_TOKENS

DEFAULTS = Sampling(0.8, 0.9, 40, 0.0, 1.1, 64)


def test_nothing_said_is_ollamas_defaults():
    options = parse({})
    assert (options.sampling, options.stop) == (DEFAULTS, ())
    assert (options.max_tokens, options.open_ended) == (GENERATE_MAX_TOKENS, True)
    assert options.context is None


def test_every_option_that_is_understood_is_taken():
    options = parse(
        {
            "temperature": 0, "top_k": 20, "top_p": 0.5, "min_p": 0.1, "repeat_penalty": 1.2,
            "repeat_last_n": 33, "seed": 42, "presence_penalty": 1.5, "frequency_penalty": 1,
            "num_predict": 100, "num_ctx": 2048, "stop": ["\n", "user:"],
        }
    )  # fmt: skip
    assert options.sampling == Sampling(0.0, 0.5, 20, 0.1, 1.2, 33, 1.5, 1.0, 42)
    assert (options.max_tokens, options.stop) == (100, ("\n", "user:"))
    assert (options.context, options.open_ended) == (2048, False)


def test_null_and_unknown_options_mean_nothing():
    said = {"temperature": None, "num_ctx": None, "mirostat": 1, "num_gpu": "all", "stop": None}
    assert parse(said).sampling == DEFAULTS


@pytest.mark.parametrize(
    ("said", "tokens", "open_ended"),
    [
        (-1, GENERATE_MAX_TOKENS, True),
        (-2, GENERATE_MAX_TOKENS, False),
        (0, GENERATE_MAX_TOKENS, True),
        (1, 1, False),
        (10**9, GENERATE_MAX_TOKENS, False),
        (7.0, 7, False),
    ],
)
def test_num_predict_is_bounded(said, tokens, open_ended):
    options = parse({"num_predict": said})
    assert (options.max_tokens, options.open_ended) == (tokens, open_ended)


@pytest.mark.parametrize("said", [0, -1])
def test_a_context_of_no_tokens_is_the_models_own(said):
    assert parse({"num_ctx": said}).context is None


def test_one_stop_may_be_text_and_an_empty_one_is_none():
    assert parse({"stop": "END"}).stop == ("END",)
    assert parse({"stop": ["", "END"]}).stop == ("END",)


def test_a_negative_seed_is_none():
    assert parse({"seed": -1}).sampling.seed is None
    assert parse({"seed": 0}).sampling.seed == 0


def test_a_penalty_over_no_tokens_is_none():
    assert parse({"repeat_last_n": 0}).sampling.repetition_penalty == 1.0


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"temperature": "hot"}, "option 'temperature' must be a number"),
        ({"temperature": True}, "option 'temperature' must be a number"),
        ({"temperature": -1}, "temperature must be 0 to"),
        ({"temperature": float("nan")}, "option 'temperature' must be a number"),
        ({"top_p": 2}, "top_p must be 0 to 1"),
        ({"top_k": 1.5}, "option 'top_k' must be a whole number"),
        ({"top_p": 10**400}, "option 'top_p' must be a number"),
        ({"seed": 10**30}, "at most 9007199254740992"),
        ({"seed": "x"}, "option 'seed' must be a number"),
        ({"stop": [1]}, "option 'stop' must be a string or a list of strings"),
        ({"stop": ["x"] * 17}, "at most 16"),
        ({"repeat_penalty": 0}, "repetition_penalty must be"),
        ({"presence_penalty": 3}, "presence_penalty must be -2 to 2"),
    ],
)
def test_a_wrong_option_is_named(said, named):
    with pytest.raises(InputError, match=named):
        parse(said)
