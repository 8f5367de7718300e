import math

import pytest

from dreamer.daemon.rest.ollama.keep_alive import keep_alive_s
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_FOREVER_S


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (-1, -1.0),
        ("-1", -1.0),
        ("-1m", -60.0),
        (300, 300.0),
        (2.5, 2.5),
        ("5m", 300.0),
        ("+5m", 300.0),
        ("24h", 86400.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("300ms", 0.3),
        ("10us", 1e-5),
        (1e18, OLLAMA_FOREVER_S),
        ("9999999999999999h", OLLAMA_FOREVER_S),
        ("10µs", 1e-5),
    ],
)
def test_durations_are_gos_and_numbers_are_seconds(said, seconds):
    found = keep_alive_s(said)
    assert found == seconds if seconds is None else math.isclose(found, seconds)


@pytest.mark.parametrize(
    "said",
    [
        "soon",
        "5 m",
        "m",
        "1.2",
        "5mm",
        "-",
        "٣m",
        True,
        [],
        {},
        math.inf,
        math.nan,
        10**400,
        "9" * 400,
    ],
)
def test_what_is_no_duration_is_refused(said):
    with pytest.raises(InputError, match="keep_alive"):
        keep_alive_s(said)
