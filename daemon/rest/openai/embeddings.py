"""Embeddings in OpenAI's form."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Iterator

import msgspec

from dreamer.daemon.inference.tensors import Embedded, EmbedRequest
from dreamer.daemon.rest.openai.prompts import prompts
from dreamer.daemon.rest.openai.requests import EmbeddingBody, FieldError
from dreamer.protocol.inference_limits import OPENAI_TEXTS_MAX

_FLOAT_BYTES = 4


def embed_request(body: EmbeddingBody) -> EmbedRequest:
    """Return what the node is asked.

    Raises:
        FieldError: the input can't be used.
    """
    texts = [_text(one.text) for one in prompts(body.input, "input")]
    if len(texts) > OPENAI_TEXTS_MAX:
        raise FieldError("input", f"input has more than {OPENAI_TEXTS_MAX} texts: send fewer")
    return EmbedRequest(tuple(texts), dimensions=body.dimensions)


def _text(text: str | None) -> str:
    if text is None:
        raise FieldError(
            "input", "input holds tokens, of which each model has its own: send the texts"
        )
    if not text:
        raise FieldError("input", "input holds an empty text: leave it out")
    return text


def embedding_answer(body: EmbeddingBody, embedded: Embedded) -> bytes:
    """Return the answer as JSON; vectors as numbers, or as base64 of their little-endian FP32."""
    vectors = _base64 if body.encoding_format == "base64" else _floats
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors(embedded))
    ]
    used = {"prompt_tokens": embedded.prompt_tokens, "total_tokens": embedded.prompt_tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": body.model, "usage": used})


def _rows(embedded: Embedded) -> Iterator[memoryview]:
    data = memoryview(embedded.vectors.data)
    size = embedded.vectors.shape[1] * _FLOAT_BYTES
    return (data[start : start + size] for start in range(0, len(data), size))


def _base64(embedded: Embedded) -> list[str]:
    return [base64.b64encode(row).decode() for row in _rows(embedded)]


def _floats(embedded: Embedded) -> list[list[float]]:
    return [_row(row) for row in _rows(embedded)]


def _row(row: memoryview) -> list[float]:
    values = array.array("f", bytes(row))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
