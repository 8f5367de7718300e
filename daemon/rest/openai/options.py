"""Turns the bodies of chat and completions into generations, with the defaults that OpenAI has."""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.rest.openai.prompts import conversation, prompts
from dreamer.daemon.rest.openai.requests import (
    ChatBody,
    CompletionBody,
    FieldError,
    ResponseFormat,
    SamplingBody,
    given,
)
from dreamer.daemon.rest.openai.tools import chat_tools
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    OPENAI_CHOICES_MAX,
    OPENAI_COMPLETION_TOKENS,
)

UNSUPPORTED = ("functions", "audio", "web_search_options")
"""Fields of a chat that would change its answer, and are refused."""

_SEEDS = 2**63
_SEED_STEP = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: seeds of neighbouring choices are far apart (Knuth)."""


def chat_requests(body: ChatBody) -> list[GenerateRequest]:
    """Return one generation for each choice of a chat.

    Raises:
        FieldError: it asks for what is not done here.
    """
    _refuse_unsupported(body)
    most = body.max_completion_tokens or body.max_tokens
    wanted = replace(
        _request(body, most or GENERATE_MAX_TOKENS),
        messages=conversation(body.messages),
        logprobs=_chat_logprobs(body),
        tools=chat_tools(body),
        open_ended=most is None,
        thinking=body.thinking,
    )
    return _choices(wanted, body.n or 1)


def completion_requests(body: CompletionBody) -> list[GenerateRequest]:
    """Return one generation for each choice of each prompt, in the order of their indexes.

    Raises:
        FieldError: it asks for what is not done here.
    """
    _refuse_completion(body)
    wanted = replace(
        _request(body, body.max_tokens or OPENAI_COMPLETION_TOKENS), logprobs=body.logprobs
    )
    found = prompts(body.prompt, "prompt")
    number = body.n or 1
    if len(found) * number > OPENAI_CHOICES_MAX:
        raise FieldError("prompt", f"more than {OPENAI_CHOICES_MAX} choices: ask for fewer at once")
    each = (replace(wanted, raw_prompt=one.text, prompt_ids=one.ids) for one in found)
    return [choice for request in each for choice in _choices(request, number)]


def _request(body: SamplingBody, max_tokens: int) -> GenerateRequest:
    return GenerateRequest(
        # Clients ask for as many as their favourite model gives: the answer says that it was cut.
        max_tokens=min(max_tokens, GENERATE_MAX_TOKENS),
        sampling=_sampling(body),
        stop=_stops(body),
        grammar=_grammar(body.response_format),
    )


def _sampling(body: SamplingBody) -> Sampling:
    given = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        # vLLM's way of saying "all".
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
        "repeat_last_n": body.repeat_last_n,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "seed": None if body.seed is None else body.seed % _SEEDS,
    }
    said = {name: value for name, value in given.items() if value is not None}
    sampling = Sampling(**{"temperature": 1.0, **said}, logit_bias=_biases(body))  # type: ignore[arg-type]
    for name in (*said, "logit_bias"):
        _check_field(sampling, name)
    return sampling


def _check_field(sampling: Sampling, name: str) -> None:
    """Refuse a number out of its range, and name the field for programs."""
    try:
        replace(Sampling(), **{name: getattr(sampling, name)}).check()
    except InputError as error:
        raise FieldError(name, str(error)) from error


def _biases(body: SamplingBody) -> tuple[tuple[int, float], ...]:
    biases = body.logit_bias or {}
    for token in biases:
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise FieldError("logit_bias", f"logit_bias names {token!r:.80}, which is no token id")
    return tuple((int(token), bias) for token, bias in biases.items())


def _stops(body: SamplingBody) -> tuple[str, ...]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return tuple(stop for stop in stops if stop)


def _grammar(wanted: ResponseFormat | None) -> Grammar | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Grammar("json")
    if wanted.json_schema is None or not given(wanted.json_schema.schema):
        raise FieldError(
            "response_format.json_schema.schema", "response_format has no schema: send one"
        )
    return Grammar("schema", bytes(wanted.json_schema.schema).decode())


def _chat_logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise FieldError("top_logprobs", "top_logprobs needs logprobs: true")
    return (body.top_logprobs or 0) if body.logprobs else None


def _choices(wanted: GenerateRequest, number: int) -> list[GenerateRequest]:
    return [_seeded(wanted, index) for index in range(number)]


def _seeded(wanted: GenerateRequest, index: int) -> GenerateRequest:
    seed = wanted.sampling.seed
    if seed is None or index == 0:
        return wanted
    # The same seed gives the same choices again, and each its own.
    seed = (seed + index * _SEED_STEP) % _SEEDS
    return replace(wanted, sampling=replace(wanted.sampling, seed=seed))


def _refuse_unsupported(body: ChatBody) -> None:
    for name in UNSUPPORTED:
        if given(getattr(body, name)):
            instead = "send tools instead" if name == "functions" else "leave it out"
            raise FieldError(name, f"{name} is not supported here: {instead}")


def _refuse_completion(body: CompletionBody) -> None:
    if body.suffix:
        raise FieldError("suffix", "suffix is not supported here: leave it out")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise FieldError("best_of", "best_of is not supported here: ask for n choices instead")
    if body.echo and not _is_text(body):
        raise FieldError("echo", "echo is supported for prompts of text only: leave it out")
    if body.echo and body.logprobs is not None:
        raise FieldError("echo", "echo can't be had with logprobs: the prompt's aren't computed")


def _is_text(body: CompletionBody) -> bool:
    return isinstance(body.prompt, str) or all(isinstance(one, str) for one in body.prompt)
