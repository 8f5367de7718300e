"""Rebuilds a Hugging Face ``tokenizer.json`` from the vocabulary and merges inside a GGUF.

Only byte-level BPE (``tokenizer.ggml.model`` = gpt2) is known. How text is cut before the merges
apply is named by ``tokenizer.ggml.pre``; the rules are those of llama.cpp's ``llama-vocab.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from dreamer.daemon.inference.gguf.reading import GgufFile, MetadataValue
from dreamer.protocol.errors import InputError

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_GPT2 = ("gpt-2", "gpt2", "default")
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
_END_NAMES = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "</s>",
)  # fmt: skip


class TokenKind(IntEnum):
    """What a vocabulary entry is (``llama_token_type``)."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with the ids that frame and end a text, and the chat template if there is one."""

    tokenizer: Tokenizer
    tokens: tuple[str, ...]
    begin: int | None
    ends: tuple[int, ...]
    chat_template: str | None


def read_vocabulary(file: GgufFile, size: int) -> Vocabulary:
    """Return the tokenizer of a GGUF whose embedding has ``size`` rows.

    Raises:
        InputError: another kind of tokenizer, or lists that are missing or don't fit.
    """
    tokens, kinds = _strings(file, "tokens"), _list(file, "token_type")
    if len(tokens) != size or len(kinds) != size or len(set(tokens)) != size:
        raise InputError("the GGUF's vocabulary doesn't fit its embedding; download it again")
    tokenizer = _bpe(file, tokens)
    tokenizer.add_special_tokens(_added(tokens, kinds, TokenKind.CONTROL))
    tokenizer.add_tokens(_added(tokens, kinds, TokenKind.USER_DEFINED))
    begin = _token_id(file, "bos_token_id", size)
    if begin is not None and file.metadata.get("tokenizer.ggml.add_bos_token", False):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[begin]} $A", special_tokens=[(tokens[begin], begin)]
        )
    template = file.metadata.get("tokenizer.chat_template")
    return Vocabulary(
        tokenizer,
        tuple(tokens),
        begin,
        _ends(file, tokens, kinds),
        template if isinstance(template, str) else None,
    )


def _bpe(file: GgufFile, tokens: list[str]) -> Tokenizer:
    model = file.metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise InputError(
            f"tokenizer {model!r:.40} can't be imported; use a model with a byte-level BPE "
            "vocabulary (SmolLM, Llama 3 …)"
        )
    split, ignore_merges = _pre_tokenizer(file.metadata.get("tokenizer.ggml.pre", "default"))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [_pair(merge, vocabulary) for merge in _strings(file, "merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pair(merge: str, vocabulary: dict[str, int]) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not space or any(part not in vocabulary for part in (left, right, left + right)):
        raise InputError(f"the GGUF's merge {merge!r:.40} is not of its vocabulary; download again")
    return left, right


def _pre_tokenizer(name: MetadataValue) -> tuple[pre_tokenizers.PreTokenizer, bool]:
    """Return what cuts the text, and whether a whole word of the vocabulary skips the merges."""
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in _DIGIT_BY_DIGIT:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, whole]), False
    if name in _GPT2:
        return whole, False
    if name in _LLAMA3:
        split = pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), "isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([split, plain]), True
    raise InputError(
        f"pre-tokenizer {name!r:.40} can't be imported; "
        f"known are {', '.join((*_DIGIT_BY_DIGIT, *_GPT2, *_LLAMA3))}"
    )


def _added(tokens: list[str], kinds: list[MetadataValue], kind: TokenKind) -> list[AddedToken]:
    special = kind is TokenKind.CONTROL
    pairs = zip(tokens, kinds, strict=True)
    return [AddedToken(one, special=special, normalized=False) for one, k in pairs if k == kind]


def _ends(file: GgufFile, tokens: list[str], kinds: list[MetadataValue]) -> tuple[int, ...]:
    """Return every token that ends an answer: those named in the metadata, and known ones."""
    named = [_token_id(file, f"{name}_token_id", len(tokens)) for name in ("eos", "eot", "eom")]
    known = [
        index
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind == TokenKind.CONTROL and token in _END_NAMES
    ]
    return tuple(dict.fromkeys([one for one in named if one is not None] + known))


def _token_id(file: GgufFile, name: str, size: int) -> int | None:
    value = file.metadata.get(f"tokenizer.ggml.{name}")
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < size:
        raise InputError(f"the GGUF's {name} is no token of its vocabulary; download it again")
    return value


def _list(file: GgufFile, name: str) -> list[MetadataValue]:
    value = file.metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, list):
        raise InputError(f"the GGUF lacks tokenizer.ggml.{name}; use one that holds its tokenizer")
    return value


def _strings(file: GgufFile, name: str) -> list[str]:
    return [one for one in _list(file, name) if isinstance(one, str)]
