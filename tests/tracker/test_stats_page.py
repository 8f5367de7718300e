from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from dreamer.tracker.stats_page import page, wants_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
COUNTS = {
    "swarms": 3, "seeders": 1, "leechers": 12_345, "sockets": 7,
    "tcp_swarms": 2, "tcp_seeders": 4, "tcp_leechers": 6,
    "messages": 1000, "announces": 500, "offers": 20, "answers": 10, "refused": 1,
}  # fmt: skip


async def test_browsers_get_a_page_and_programs_json(running):
    talker = await running.open()
    await talker.announce("1" * 20)
    _, text, headers = await running.get("/stats", headers={"Accept": BROWSER})
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Vary"] == "Accept"
    assert "<dt>leechers</dt><dd>1</dd>" in text
    for accept in ("*/*", "application/json"):
        _, text, headers = await running.get("/stats", headers={"Accept": accept})
        assert headers["Content-Type"].startswith("application/json")
        assert json.loads(text)["leechers"] == 1


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (BROWSER, True),
        ("application/json, text/html", True),
        ("text/html;q=0.5", True),
        ("text/html;q=0", False),
        ("text/html; q=0.000, */*", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        (";,;q", False),
    ],
)
def test_page_is_for_those_who_name_it(accept, wanted):
    assert wants_page(accept) is wanted


async def test_page_may_load_and_run_nothing(running):
    _, text, headers = await running.get("/stats", headers={"Accept": "text/html"})
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    for word in ("<script", "http://", "https://", "src=", "href=", "style=", "url("):
        assert word not in text


@pytest.mark.parametrize(
    ("uptime_s", "shown"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (61.0, "1 min 1 s"),
        (3600.0, "1 h"),
        (90_000.0, "1 d 1 h"),
        (86_461.0, "1 d 1 min"),
    ],
)
def test_time_since_the_start_is_readable(uptime_s, shown):
    assert f"up for {shown};" in page(COUNTS, uptime_s, "1")


def test_counts_and_rates_stand_in_the_page():
    text = page(COUNTS, 100.0, "1<2")
    assert "<dd>12,345</dd>" in text
    assert "<tr><th>announces</th><td>500</td><td>5.0</td></tr>" in text
    assert "version 1&lt;2," in text
    # In the first moment, too.
    assert "<td>500</td><td>500.0</td>" in page(COUNTS, 0.0, "1")
