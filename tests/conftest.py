"""For all tests: Ctrl-C that works, and the programs that others wrote.

A test that runs such a program asks for it by a fixture: it is skipped where the program is
missing, but never in CI. ``make outside`` installs them.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

NPM = Path(__file__).resolve().parent.parent / ".cache" / "npm" / "node_modules"

# A runner that starts the suite in the background has it ignore Ctrl-C, and every program that a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def program():
    """``program("turnserver")`` returns the path of an installed program."""
    # Some come as Python packages: their programs lie beside this interpreter.
    own = str(Path(sys.executable).parent)
    return lambda name: _or_skip(shutil.which(name) or shutil.which(name, path=own), name)


@pytest.fixture(scope="session")
def npm_package():
    """``npm_package("webtorrent")`` returns the folder of an installed npm package."""

    def find(name: str) -> Path:
        folder = NPM / name
        return Path(_or_skip(str(folder) if folder.is_dir() else None, f"npm package {name}"))

    return find


def _or_skip(found: str | None, what: str) -> str:
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI skips nothing: run 'make outside'")
    pytest.skip(f"{what} is not installed here: run 'make outside' as root")
