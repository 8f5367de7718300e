"""Bodies of ``/api/generate`` and ``/api/chat``, as a generation; what can't be done is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.daemon.rest.ollama import context, options
from dreamer.daemon.rest.ollama.answers import Style
from dreamer.daemon.rest.ollama.fields import Fields, model_of
from dreamer.daemon.rest.ollama.keep_alive import keep_alive_s
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_LOGPROBS_MAX, OLLAMA_MESSAGES_MAX

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Asked:
    """One request. Neither ``turns`` nor ``raw``: the model is to be loaded, or unloaded.

    ``earlier`` are turns from a context that the client sent back.
    """

    style: Style
    model: str
    stream: bool
    keep_alive_s: float | None
    options: Json
    grammar: Grammar | None
    logprobs: int | None
    earlier: tuple[Message, ...] = ()
    turns: tuple[Message, ...] = ()
    raw: str | None = None

    @property
    def only_loads(self) -> bool:
        """Whether there is nothing to answer."""
        return not self.turns and self.raw is None

    def conversation(self, recipe: Recipe) -> tuple[Message, ...]:
        """Return all turns, with those that the model begins each conversation with."""
        if self.earlier:
            return _with_system(self.earlier, self.turns)
        begun = tuple(recipe.messages)
        if recipe.system:
            begun = (Message("system", recipe.system), *begun)
        return _with_system(begun, self.turns)

    def request(self, recipe: Recipe) -> GenerateRequest:
        """Return the generation that is asked for, of a model that was made by ``recipe``.

        Raises:
            InputError: an option is wrong.
        """
        chosen = options.parse({**recipe.parameters, **self.options})
        turns = () if self.raw is not None else self.conversation(recipe)
        return GenerateRequest(
            messages=turns,
            raw_prompt=self.raw,
            max_tokens=chosen.max_tokens,
            sampling=chosen.sampling,
            stop=chosen.stop,
            grammar=self.grammar,
            logprobs=self.logprobs,
        )


def parse_generate(fields: Fields) -> Asked:
    """Read the body of ``/api/generate``.

    Raises:
        InputError: something is wrong, or asks for what models here don't do.
    """
    asked = _common("generate", fields)
    prompt, system = fields.text("prompt"), fields.text("system")
    if fields.flag("raw", False):
        if system or fields.has("context"):
            raise InputError("raw mode takes a prompt alone: no system, no context")
        return replace(asked, raw=prompt) if prompt else asked
    if not prompt:
        return asked
    begun = (Message("system", system),) if system else ()
    turns = (*begun, Message("user", prompt))
    return replace(asked, turns=turns, earlier=context.decode(fields.raw("context")))


def parse_chat(fields: Fields) -> Asked:
    """Read the body of ``/api/chat``; raises as ``parse_generate``."""
    given = fields.tables("messages")
    return replace(_common("chat", fields), turns=messages(given))


def messages(given: list[Json]) -> tuple[Message, ...]:
    """Return the turns of a conversation.

    Raises:
        InputError: one is not of a role or a form that models here know.
    """
    if len(given) > OLLAMA_MESSAGES_MAX:
        raise InputError(f"more than {OLLAMA_MESSAGES_MAX} messages: leave out the oldest")
    return tuple(_message(Fields(one, "message's")) for one in given)


def _message(fields: Fields) -> Message:
    role = fields.text("role")
    if role == "tool" or fields.has("tool_calls"):
        raise InputError("models here do not support tools: send messages without tool calls")
    if role not in _ROLES:
        raise InputError(f"a message's role must be one of {', '.join(_ROLES)}, not {role!r:.40}")
    _refuse_images(fields)
    return Message(role, fields.text("content"))


def _common(style: Style, fields: Fields) -> Asked:
    _refuse(fields)
    return Asked(
        style,
        model_of(fields),
        fields.flag("stream", True),
        keep_alive_s(fields.raw("keep_alive")),
        fields.table("options"),
        _grammar(fields.raw("format")),
        _logprobs(fields),
    )


def _refuse(fields: Fields) -> None:
    """Refuse what would change an answer and can't be done; it is never left out in silence."""
    if fields.has("think"):
        raise InputError("models here do not support thinking: leave 'think' out")
    if fields.has("tools"):
        raise InputError("models here do not support tools: leave 'tools' out")
    if fields.has("suffix"):
        raise InputError("models here do not support insert: leave 'suffix' out")
    if fields.has("template"):
        raise InputError(
            "a template is the model's own: make a model with another by /api/create, or send a "
            "'raw' prompt"
        )
    if any(fields.has(name) for name in ("width", "height", "steps")):
        raise InputError("models here make no images")
    _refuse_images(fields)


def _refuse_images(fields: Fields) -> None:
    if fields.has("images"):
        raise InputError("models here do not support images: leave 'images' out")


def _grammar(wanted: object) -> Grammar | None:
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return Grammar("json")
    if isinstance(wanted, dict):
        try:
            return Grammar("schema", json.dumps(wanted))
        except RecursionError as error:
            raise InputError("the schema in 'format' is nested too deeply") from error
    raise InputError('format must be "json" or a JSON schema')


def _logprobs(fields: Fields) -> int | None:
    top = fields.whole("top_logprobs", 0)
    if not 0 <= top <= OLLAMA_LOGPROBS_MAX:
        raise InputError(f"top_logprobs must be between 0 and {OLLAMA_LOGPROBS_MAX}")
    if top and not fields.flag("logprobs", False):
        raise InputError("top_logprobs needs logprobs to be true")
    return top if fields.flag("logprobs", False) else None


def _with_system(begun: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Join turns; a system message that comes later takes the place of the first."""
    if begun and turns[0].role == "system" and begun[0].role == "system":
        begun = begun[1:]
    if turns[0].role == "system":
        return (turns[0], *begun, *turns[1:])
    return (*begun, *turns)
