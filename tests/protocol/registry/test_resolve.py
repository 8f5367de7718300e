import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import AmbiguousError, InputError, NoMatchError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.names import check_alias, check_tag
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.statements import ModelEntry

A = ManifestId(bytes.fromhex("cafe01" + "00" * 29))
B = ManifestId(bytes.fromhex("cafe02" + "00" * 29))
C = ManifestId(bytes.fromhex("beef03" + "00" * 29))


@pytest.fixture
def registry(room):
    entries = [Publish(ModelEntry(key, "m", 1, 1, "files")) for key in (A, B, C)]
    names = [MoveAlias("production", A), MoveAlias("beef", A), MoveAlias(B.hex(), C)]
    tags = [ChangeTags(A, add=("validated",)), ChangeTags(B, add=("old",))]
    more = [ChangeTags(C, add=("old",))]
    return room.change(room.empty(), *entries, *names, *tags, *more).registry


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (A.hex(), A),
        ("production", A),
        ("tag:validated", A),
        ("cafe02", B),
        (C.hex()[:8], C),
        ("beef", A),  # an alias wins over the start of an id
        (B.hex(), B),  # and an exact id over an alias
    ],
)
def test_reference_names_the_model(registry, ref, expected):
    assert resolve(registry, ref).manifest_id == expected


@pytest.mark.parametrize("ref", ["cafe", "tag:old"])
def test_reference_to_several_models_lists_them(registry, ref):
    with pytest.raises(AmbiguousError, match=r"2 models .*cafe0200"):
        resolve(registry, ref)


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("producton", "did you mean production"),
        ("tag:validate", "did you mean tag:validated"),
        ("zzz", "'dreamer models'"),
        ("caf", "4 digits or more"),
        ("CAFE01", "dreamer models"),
        ("", "dreamer models"),
        (" production", "dreamer models"),
        ("production\n", "dreamer models"),
        ("\x00", "dreamer models"),
        ("\ud800", "dreamer models"),
        ("cafe0100" * 9, "dreamer models"),
        ("x" * 10_000, "dreamer models"),
        (B.hex().upper(), "dreamer models"),
    ],
)
def test_reference_to_nothing_says_what_to_do(registry, ref, hint):
    with pytest.raises(NoMatchError, match=hint):
        resolve(registry, ref)


def test_impossible_tag_in_a_query_is_refused(registry):
    with pytest.raises(InputError, match="lower-case"):
        resolve(registry, "tag:No Such")


@pytest.mark.parametrize("alias", ["a", "prod-v2", "A_b", "x" * 64, "1234567", "cafe012g"])
def test_alias_within_the_rules(alias):
    assert check_alias(alias) == alias


@pytest.mark.parametrize(
    "alias",
    ["", "-a", "a-", "_a", "a_", "a b", "é", "a/b", "x" * 65, "cafe0123", "CAFE0123", "all",
     "Latest", "none", "null", "a\n"],
)  # fmt: skip
def test_alias_outside_the_rules_is_refused(alias):
    with pytest.raises(InputError, match="alias"):
        check_alias(alias)


@given(st.text(st.sampled_from("aZ09_-fé \n"), max_size=70))
def test_alias_rules_hold_for_any_text(alias):
    allowed = (
        1 <= len(alias) <= 64
        and all(one in "aZ09_-f" for one in alias)
        and alias.strip("-_") == alias
        and not (len(alias) == 8 and all(one in "a09f" for one in alias))
    )
    try:
        assert (check_alias(alias), allowed) == (alias, True)
    except InputError:
        assert not allowed


@pytest.mark.parametrize("tag", ["", "A", ".a", "-a", "a b", "x" * 65, "a\n", "é"])
def test_tag_outside_the_rules_is_refused(tag):
    with pytest.raises(InputError, match="tag"):
        check_tag(tag)


@pytest.mark.parametrize("tag", ["a", "v1.2", "a_b-c", "0", "x" * 64])
def test_tag_within_the_rules(tag):
    assert check_tag(tag) == tag
