from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.availability import Stored
from dreamer.protocol.registry.provenance import Provenance
from dreamer.protocol.registry.query import parse
from dreamer.protocol.registry.view import Model

NOW = 1_800_000_000.0
DAY = 86400.0


def model(number: int, name: str, model_type: str = "decoder", **more) -> Model:
    key = ManifestId(bytes([number]) * 32)
    return Model(
        key,
        name,
        number * 10**9,
        number,
        model_type,
        NodeId(b"\xee" * 32),
        NOW - number * DAY,
        **more,
    )


SMALL = model(
    1,
    "llama-small",
    tags=("lang-en", "validated"),
    aliases=("production", "tiny"),
    provenance=Provenance(
        "anna",
        metrics={"val_loss": 0.02, "bleu": 31.0},
        config={"epochs": 3, "data": "wiki", "ema": True},
    ),
    stored=Stored(ManifestId(b"\x01" * 32), "s3://bucket/lab", 1, 1),
)
LARGE = model(
    2,
    "Llama large",
    tags=("validated",),
    provenance=Provenance(parents=(SMALL.manifest_id,), metrics={"val_loss": 0.05}),
    cached_on=((NodeId(b"\xee" * 32), True),),
)
VOICE = model(3, "voice", "tensor", tags=("raw",), expires_at=NOW + DAY)
ALL = (SMALL, LARGE, VOICE)


def names(text: str) -> str:
    wanted = parse(text, NOW)
    return " ".join(one.name.split()[-1] for one in ALL if wanted.matches(one))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tag:validated and type:decoder and metrics.val_loss < 0.03", "llama-small"),
        ("tag:validated type:decoder", "llama-small large"),
        ("tag:validated or tag:raw", "llama-small large voice"),
        ("not tag:validated", "voice"),
        ("not (tag:validated or tag:raw)", ""),
        ("tag:raw or tag:validated and metrics.val_loss >= 0.05", "large voice"),
        ("type:decoder AND NOT tag:lang-en", "large"),
        ("tag:lang-*", "llama-small"),
        ("alias:prod*", "llama-small"),
        ("name:'Llama large'", "large"),
        ("name:*llama*", "llama-small"),
        ("id:0202", "large"),
        ("0101", "llama-small"),
        ("tiny", "llama-small"),
        ("llama", "llama-small large"),
        ('"a large"', "large"),
        ("by:eeee", "llama-small large voice"),
        ("parent:01010101", "large"),
        ("is:stored", "llama-small"),
        ("is:cached", "large"),
        ("is:served", "large"),
        ("is:temporary", "voice"),
        ("is:public", ""),
        ("size > 1.5GB", "large voice"),
        ("size<=1000MB", "llama-small"),
        ("files = 3", "voice"),
        ("files != 3", "llama-small large"),
        ("age > 36h", "large voice"),
        ("age<1w and age >= 3d", "voice"),
        ("metrics.bleu>30", "llama-small"),
        ("metrics.nothing < 1", ""),
        ("not metrics.nothing < 1", "llama-small large voice"),
        ("config.epochs >= 3", "llama-small"),
        ("config.data = wiki", "llama-small"),
        ("config.ema = true", "llama-small"),
        ("config.epochs = three", ""),
        ("metrics.val_loss < 3e-2", "llama-small"),
        ("android", ""),
        ("or-gate", ""),
        ('tag:"not"', ""),
    ],
)
def test_query_finds(text, found):
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tag:", "at its end"),
        ("tag:a and", "at its end"),
        ("(tag:a", "at its end"),
        ("tag:a) or", "at ') or'"),
        ("metrics.val_loss < < 3", "at '< 3'"),
        ("metrics.val_loss < low", "'low' is not a number"),
        ("size > big", "'big' is not a size such as 1.5GB"),
        ("age > 3y", "'3y' is not an age"),
        ("is:good", "is:good says nothing: use one of public, stored"),
        ("val_loss < 3", "at '< 3'"),
        ("x" * 1001, "1000 characters"),
    ],
)
def test_what_can_not_be_read_is_refused_where_it_goes_wrong(text, part):
    with pytest.raises(InputError) as refusal:
        parse(text, NOW)
    assert part in str(refusal.value)


def test_deep_nesting_ends_in_an_answer_not_in_a_crash():
    deep = "(" * 400 + "tag:raw" + ")" * 400
    assert parse(deep, NOW).matches(VOICE)
    assert parse("not " * 248 + "tag:raw", NOW).matches(VOICE)


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_refused(text):
    try:
        found = parse(text, NOW)
    except InputError:
        return
    for one in ALL:
        assert found.matches(one) in (True, False)


@given(
    st.sampled_from(["tag:raw", "is:stored", "llama", "size > 1GB"]),
    st.sampled_from(["tag:validated", "files = 3"]),
)
def test_negation_and_de_morgan_hold(left, right):
    for one in ALL:
        one_way = parse(f"not ({left} and {right})", NOW).matches(one)
        assert one_way == parse(f"not {left} or not {right}", NOW).matches(one)


def test_model_without_provenance_lacks_every_metric_and_setting():
    bare = replace(SMALL, provenance=None)
    assert not parse("metrics.val_loss < 1 or config.epochs > 0", NOW).matches(bare)
