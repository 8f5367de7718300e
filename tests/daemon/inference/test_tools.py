"""The tools of a request are checked before they travel."""

from __future__ import annotations

import pytest

from dreamer.daemon.inference.tools import Tools
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import TOOLS_MAX_BYTES


def test_tools_are_measured_in_bytes() -> None:
    Tools("x" * TOOLS_MAX_BYTES).check()
    with pytest.raises(InputError, match=f"the tools are {TOOLS_MAX_BYTES + 1} bytes"):
        Tools("x" * (TOOLS_MAX_BYTES - 2) + "字").check()


def test_tools_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(InputError, match="a lone surrogate"):
        Tools('[{"description": "\ud800"}]').check()
