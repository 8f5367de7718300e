"""For all tests: Ctrl-C that works, second tries, and the programs that others wrote.

A test that runs such a program asks for it by a fixture: it is skipped where the program is
missing, but never in CI. ``make outside`` installs them.
"""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest

VIRTUAL = {"protocol", "simulations"}
"""Folders of tests with neither clock nor socket: one that fails once has found something."""

PROCESSES_TIMEOUT_S = 300
"""For tests that start programs: on two busy cores a daemon alone may need ten seconds for that.

It ends what hangs, and says nothing about how long anything should take.
"""

NPM = Path(__file__).resolve().parent.parent / ".cache" / "npm" / "node_modules"

# A runner that starts the suite in the background has it ignore Ctrl-C, and every program that a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try tests of real sockets, threads and processes twice, and tell which needed it.

    They share their cores with whatever else runs there. What failed the first time is printed
    as RERUN with its traceback: a defect to be found. Beyond five in a run, none is tried again.
    """
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] not in VIRTUAL:
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.get_closest_marker("e2e") or item.get_closest_marker("interop"):
            _be_patient(item)


def _be_patient(item: pytest.Item) -> None:
    own = item.get_closest_marker("timeout")
    if own is None or own.args[0] < PROCESSES_TIMEOUT_S:
        item.add_marker(pytest.mark.timeout(PROCESSES_TIMEOUT_S), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what collection makes out of the garbage collector's sight, then and later.

    Eight thousand tests and the modules they import stay until the end: to walk through them
    takes a third of a second each time, and would be done in the midst of hundreds of tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def descriptions_read_once():
    """Let all sessions of boto3 share one reader of its descriptions of services.

    Each client that a test makes would parse the same two megabytes of JSON. What is kept is
    what one session keeps for all its clients, none of which writes there.
    """
    import botocore.session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


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
