"""Bodies of ``/api/generate`` and ``/api/chat``, as a generation; what can't be done is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.daemon.inference.tools import Tools
from dreamer.daemon.rest.ollama import context, options
from dreamer.daemon.rest.ollama.answers import Style
from dreamer.daemon.rest.ollama.fields import Fields, model_of
from dreamer.daemon.rest.ollama.keep_alive import keep_alive_s
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.daemon.rest.ollama.turns import messages, offered, refuse_images
from dreamer.daemon.rest.tool_definitions import tools_text
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_LOGPROBS_MAX

_DEGREES = ("low", "medium", "high")


@dataclass(frozen=True)
class Asked:
    """One request. Neither ``turns`` nor ``raw``: the model is to be loaded, or unloaded.

    ``earlier`` are turns from a context that the client sent back. A prompt that is too long is cut
    if ``truncate``, else refused.
    """

    style: Style
    model: str
    stream: bool
    keep_alive_s: float | None
    options: Json
    grammar: Grammar | None
    logprobs: int | None
    truncate: bool = True
    thinking: bool | None = None
    earlier: tuple[Message, ...] = ()
    turns: tuple[Message, ...] = ()
    raw: str | None = None
    tools: Tools | None = None
    tool_names: frozenset[str] = frozenset()

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
            tools=self.tools,
            context=chosen.context,
            truncate=self.truncate,
            open_ended=chosen.open_ended,
            thinking=self.thinking,
        )


def parse_generate(fields: Fields) -> Asked:
    """Read the body of ``/api/generate``.

    Raises:
        InputError: something is wrong, or asks for what models here don't do.
    """
    asked = _common("generate", fields)
    if fields.has("tools"):
        raise InputError("tools are for conversations: send them to /api/chat")
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
    functions = offered(fields)
    return replace(
        _common("chat", fields),
        turns=messages(fields.tables("messages")),
        tools=Tools(tools_text(functions)) if functions else None,
        tool_names=frozenset(one.name for one in functions),
    )


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
        fields.flag("truncate", True),
        _thinking(fields.raw("think")),
    )


def _refuse(fields: Fields) -> None:
    """Refuse what would change an answer and can't be done; it is never left out in silence."""
    if fields.has("suffix"):
        raise InputError("models here do not support insert: leave 'suffix' out")
    if fields.has("template"):
        raise InputError(
            "a template is the model's own: make a model with another by /api/create, or send a "
            "'raw' prompt"
        )
    if any(fields.has(name) for name in ("width", "height", "steps")):
        raise InputError("models here make no images")
    refuse_images(fields)


def _thinking(wanted: object) -> bool | None:
    """Return whether to think first, None where it isn't said; how hard is not for models here."""
    if wanted is None or isinstance(wanted, bool):
        return wanted
    if wanted in _DEGREES:
        return True
    raise InputError(f"think must be true, false or one of {', '.join(_DEGREES)}")


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
