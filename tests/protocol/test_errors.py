"""The tree of errors and its codes, which other programs and peers rely on."""

from __future__ import annotations

import threading

import pytest

from dreamer.daemon.store import stopping
from dreamer.protocol import errors
from dreamer.protocol.errors import DreamerError, StoppedError, error_from_code

CODES = {
    "error": "DreamerError",
    "bad_input": "InputError",
    "bad_manifest": "ManifestError",
    "no_match": "NoMatchError",
    "ambiguous": "AmbiguousError",
    "local": "LocalError",
    "disk": "DiskError",
    "stopped": "StoppedError",
    "busy": "BusyError",
    "bug": "LocalProtocolError",
    "remote": "RemoteError",
    "peer_fault": "RemoteProtocolError",
    "conflict": "ConflictError",
    "stale": "StaleError",
    "forbidden": "ForbiddenError",
}


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_an_error_crosses_the_wire_as_its_code(code: str, name: str) -> None:
    rebuilt = error_from_code(code, "what to do")
    assert type(rebuilt) is getattr(errors, name)
    assert (rebuilt.code, str(rebuilt)) == (code, "what to do")


def test_work_that_was_stopped_is_told_from_other_failures() -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(StoppedError) as caught:
        stopping.check(stopped)
    assert type(error_from_code(caught.value.code, str(caught.value))) is StoppedError


def test_a_code_that_nobody_knows_is_still_one_of_ours() -> None:
    assert type(error_from_code("from the future", "x")) is DreamerError


def test_every_error_of_the_module_has_a_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DreamerError)
    ]
    assert {kind.code: kind.__name__ for kind in kinds} == CODES
