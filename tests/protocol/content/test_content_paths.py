import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.content.paths import check_paths
from dreamer.protocol.errors import ManifestError
from dreamer.protocol.limits import MODEL_MAX_FILES

GOOD = [
    "model.onnx",
    "a/b/c.bin",
    ".gitattributes",
    "weights 1.safetensors",
    "größe/日本.bin",
    "console.txt",
    "com10",
    "a..b",
    "-rf",
]

BAD = [
    "",
    "/etc/passwd",
    "..",
    "../up",
    "a/../b",
    "./a",
    "a/.",
    "a//b",
    "a/",
    "C:/windows",
    "c:evil",
    "\\\\server\\share",
    "//server/share",
    "a\\b",
    "a\0b",
    "line\nbreak",
    "bell\x07",
    "del\x7f",
    "right\u202eleft",
    "zero\u200bwidth",
    "\ud800",
    "NUL",
    "con.txt",
    "a/AUX.tar.gz",
    "com1",
    "LPT\u00b9",
    "CONIN$",
    "nul .txt",
    "a./b",
    "a ",
    "dir /x",
    "what?",
    "a|b",
    "stream:ads",
    "x" * 256,
    "é" * 128,
    "/".join("x" * 17),
    "/".join(["x" * 200] * 6),
]


@pytest.mark.parametrize("path", GOOD)
def test_ordinary_path_is_accepted(path: str) -> None:
    check_paths([path])


@pytest.mark.parametrize("path", BAD)
def test_dangerous_path_is_refused(path: str) -> None:
    with pytest.raises(ManifestError, match="path"):
        check_paths([path])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Model.bin", "model.bin"),
        ("STRASSE", "straße"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        ("Dir/a", "dir/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A/b", "a"),
        ("x/y/z", "x/y"),
    ],
)
def test_colliding_paths_are_refused(one: str, other: str) -> None:
    with pytest.raises(ManifestError, match="path"):
        check_paths([one, other])


def test_too_many_files_are_refused() -> None:
    with pytest.raises(ManifestError, match="files"):
        check_paths(str(number) for number in range(MODEL_MAX_FILES + 1))


def test_message_names_the_path() -> None:
    with pytest.raises(ManifestError, match=r"'sub/\.\./x'"):
        check_paths(["fine", "sub/../x"])


@given(st.lists(st.text(min_size=1, max_size=12), max_size=8))
def test_accepted_paths_never_climb_nor_collide(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except ManifestError:
        return
    folded = [unicodedata.normalize("NFC", path.casefold()) for path in paths]
    assert len(set(folded)) == len(paths) or len(set(paths)) < len(paths)
    for path in paths:
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\\" not in path
        assert "\0" not in path
