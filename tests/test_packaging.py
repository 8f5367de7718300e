"""What is installed is what is here: no folder forgotten, no bare name imported."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("daemon", "protocol", "simulations", "tracker")
SOURCES = sorted(path for top in TOP for path in (ROOT / top).rglob("*.py"))
FOLDERS = sorted({path.parent for path in SOURCES})
LIKE_A_BARE_IMPORT = re.compile(rf"\b(?:from|import)\b.*(?<![.\w])(?:{'|'.join(TOP)})\b")
# Started by their own commands, which they obey as soon as they are imported.
PROGRAMS = ("__main__.py",)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("dreamer", *(part for part in parts if part != "__init__")))


def setuptools_settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_installed() -> None:
    packages = {module_of(path.parent) for path in SOURCES}
    listed = set(setuptools_settings()["packages"])
    missing, gone = sorted(packages - listed), sorted(listed - packages)
    assert not missing, f"add to packages in pyproject.toml: {missing}"
    assert not gone, f"remove from packages in pyproject.toml: {gone}"


def test_every_package_says_that_it_is_one() -> None:
    assert [str(f) for f in FOLDERS if not (f / "__init__.py").exists()] == []


def test_packages_are_listed_in_order_and_once() -> None:
    listed = setuptools_settings()["packages"]
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("folder", FOLDERS, ids=module_of)
def test_every_module_can_be_imported_from_where_it_is_installed(folder: Path) -> None:
    for path in SOURCES:
        if path.parent == folder and path.name not in PROGRAMS:
            module = importlib.import_module(module_of(path))
            assert Path(module.__file__).resolve() == path.resolve()


def test_no_module_is_imported_by_its_bare_name() -> None:
    found = {module_of(path): bare_imports(path.read_text()) for path in SOURCES}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import daemon", ["daemon"]),
        ("if True:\n    import os, tracker.app as app", ["tracker.app"]),
        ("from protocol.ids import Digest", ["protocol.ids"]),
        ("from . import daemon\nfrom .daemon import node\nimport protocols", []),
        ("from dreamer.protocol import ids\nimport dreamer.daemon", []),
        ('"""from daemon import nothing"""', []),
    ],
)
def test_bare_name_is_found_wherever_it_is_imported(text: str, names: list[str]) -> None:
    assert bare_imports(text) == names


def bare_imports(text: str) -> list[str]:
    """Return the modules of ours that a source imports by their bare names."""
    # To parse all of our sources takes seconds, and hardly any has such a line.
    if not LIKE_A_BARE_IMPORT.search(text):
        return []
    named = [
        name
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    ]
    return [name for name in named if name.split(".")[0] in TOP]


def test_every_command_names_a_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
