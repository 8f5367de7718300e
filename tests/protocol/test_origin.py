"""The address of an origin, and the layout that says which keys are ours."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest
from dreamer.protocol.origin import parse_origin

DIGEST = Digest(b"\xab" * 32)
HEX = "ab" * 32


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("s3://models", ""),
        ("s3://models/", ""),
        ("s3://models/a/b/", "a/b/"),
        ("s3://models/a", "a/"),
    ],
)
def test_own_keys_are_let_through(url, prefix):
    address = parse_origin(url, None)
    assert address.file_key(DIGEST) == f"{prefix}files/{HEX}"
    assert address.object_key(DIGEST) == f"{prefix}objects/{HEX}"
    address.check_key(address.file_key(DIGEST))
    address.check_key(address.object_key(DIGEST))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        f"files/{HEX}",
        f"a/files/{HEX}/",
        f"a/files/{HEX}/files/{HEX}",
        f"a/other/{HEX}",
        f"b/files/{HEX}",
        f"ab/files/{HEX}",
        f"a/../a/files/{HEX}",
        f"a//files/{HEX}",
        f"/a/files/{HEX}",
        f"a/files/{HEX}\n",
        f"a/files/{HEX}a",
        f"a/files/{HEX[1:]}",
        f"a/files/{HEX.upper()}",
        f"a/files/{HEX[:-1]}٣",
    ],
)
def test_other_keys_are_refused(key):
    with pytest.raises(InputError, match="keys of this room"):
        parse_origin("s3://models/a", None).check_key(key)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://models", "http://[::1"),
        ("s3://models", "http://h:99999"),
        ("s3://models", "http://h:0"),
        ("s3://models", "http://h/?q"),
        ("s3://models", "ftp://h"),
        ("s3://[", None),
        ("s3://models/" + "a" * 3000, None),
        ("https://models", None),
    ],
)
def test_what_is_no_address_is_refused(url, endpoint):
    with pytest.raises(InputError):
        parse_origin(url, endpoint)
