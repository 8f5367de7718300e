"""What is installed is what is here: no folder forgotten, no bare name imported."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("daemon", "protocol", "simulations", "tracker")
SOURCES = sorted(path for top in TOP for path in (ROOT / top).rglob("*.py"))
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
    folders = sorted({path.parent for path in SOURCES})
    assert [str(f) for f in folders if not (f / "__init__.py").exists()] == []


def test_packages_are_listed_in_order_and_once() -> None:
    listed = setuptools_settings()["packages"]
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_every_module_can_be_imported_from_where_it_is_installed(path: Path) -> None:
    if path.name not in PROGRAMS:
        module = importlib.import_module(module_of(path))
        assert Path(module.__file__).resolve() == path.resolve()


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_module_is_imported_by_its_bare_name(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    ]
    assert [name for name in named if name.split(".")[0] in TOP] == []


def test_every_command_names_a_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
