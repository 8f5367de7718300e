"""The bodies of OpenAI's API, as far as they mean something here.

Fields that are not named here are left unread, as other servers do: clients send many that only
OpenAI knows. What would change an answer and is not done here is named in ``options.UNSUPPORTED``
and refused, because an answer that ignores it would be taken for one that doesn't.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from dreamer.protocol.canonical import count_items
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    OPENAI_BIASES_MAX,
    OPENAI_CHOICES_MAX,
    OPENAI_DIMENSIONS_MAX,
    OPENAI_LOGPROBS_MAX,
    OPENAI_MESSAGES_MAX,
    OPENAI_STOPS_MAX,
    TOOLS_MAX,
)
from dreamer.protocol.limits import JSON_MAX_ITEMS

Choices = Annotated[int, msgspec.Meta(ge=1, le=OPENAI_CHOICES_MAX)]
Stop = str | Annotated[list[str], msgspec.Meta(max_length=OPENAI_STOPS_MAX)]
Logprobs = Annotated[int, msgspec.Meta(ge=0, le=OPENAI_LOGPROBS_MAX)]
Bias = Annotated[float, msgspec.Meta(ge=-100, le=100)]
Biases = Annotated[dict[str, Bias], msgspec.Meta(max_length=OPENAI_BIASES_MAX)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
Dimensions = Annotated[int, msgspec.Meta(ge=1, le=OPENAI_DIMENSIONS_MAX)]
Inputs = str | list[str | int | list[int]]
"""A text, tokens, or several of either."""

_UNREAD = msgspec.Raw()
_NOTHING = (b"", b"null", b"[]", b"{}", b"false")

B = TypeVar("B", bound=msgspec.Struct)


class FieldError(InputError):
    """A field of the body can't be used; ``param`` is its name, for programs."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def parse(data: bytes | bytearray, kind: type[B]) -> B:
    """Return a request's body as ``kind``.

    Raises:
        FieldError: it is not JSON, or a field is missing or not what it should be.
    """
    # Counted first: megabytes of "[],[],…" would take hundreds in memory.
    if count_items(data) > JSON_MAX_ITEMS:
        raise FieldError("", f"the body has more than {JSON_MAX_ITEMS} values: send less at once")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        param = place.strip(".`")
        raise FieldError(param, f"{text} in {param}" if param else text) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FieldError("", f"the body is not JSON: {error}") from error


def given(field: msgspec.Raw) -> bool:
    """Say whether a field that is read only to be refused holds anything."""
    return b"".join(bytes(field).split()) not in _NOTHING


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(msgspec.Struct):
    """What an assistant called a function with: JSON as text."""

    name: str
    arguments: str = ""


class CalledTool(msgspec.Struct):
    """One call of an assistant's."""

    function: CalledFunction
    id: str = ""
    type: str = "function"


class ChatMessage(msgspec.Struct):
    """One turn; an assistant's that only called tools has no content.

    A turn of the role ``tool`` says what came of the call ``tool_call_id``.
    """

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None


class FunctionDefinition(msgspec.Struct):
    """A function that may be called; its parameters are a JSON schema."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = _UNREAD


class ToolDefinition(msgspec.Struct):
    """A tool; those of the type ``function`` are known here."""

    type: str = "function"
    function: FunctionDefinition | None = None


class StreamOptions(msgspec.Struct):
    """What a stream tells beside its pieces."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct):
    """The schema of a structured answer."""

    name: str = ""
    schema: msgspec.Raw = _UNREAD


class ResponseFormat(msgspec.Struct):
    """What an answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class TemplateOptions(msgspec.Struct):
    """What the model's chat template is told; not OpenAI's, but vLLM's and others'."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class SamplingBody(msgspec.Struct, kw_only=True):
    """What chat and completions have in common.

    ``top_k``, ``min_p``, ``repetition_penalty`` and ``repeat_last_n`` are not OpenAI's: other
    servers take them in the same place. Null is the same as nothing.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    stop: Stop | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Biases | None = None
    max_tokens: Tokens | None = None
    response_format: ResponseFormat | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what it used."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatBody(SamplingBody, kw_only=True):
    """Body of ``POST /v1/chat/completions``."""

    messages: Annotated[
        list[ChatMessage], msgspec.Meta(min_length=1, max_length=OPENAI_MESSAGES_MAX)
    ]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    tools: Annotated[list[ToolDefinition], msgspec.Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: str | ToolDefinition | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
    reasoning_effort: str | None = None
    # Read only to be refused.
    functions: msgspec.Raw = _UNREAD
    audio: msgspec.Raw = _UNREAD
    web_search_options: msgspec.Raw = _UNREAD

    @property
    def thinking(self) -> bool | None:
        """Whether the model is to think first; None where that is left to it."""
        said = self.chat_template_kwargs or TemplateOptions()
        wanted = said.thinking if said.enable_thinking is None else said.enable_thinking
        # Other efforts are left to the model: most have no degrees, and many never think.
        return False if wanted is None and self.reasoning_effort == "none" else wanted


class CompletionBody(SamplingBody, kw_only=True):
    """Body of ``POST /v1/completions``: one prompt or several, as text or as tokens."""

    prompt: Inputs
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
    logprobs: Logprobs | None = None


class EmbeddingBody(msgspec.Struct, kw_only=True):
    """Body of ``POST /v1/embeddings``."""

    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
