"""The tracker's counts as a page for people: one file, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

_NOW = {
    "swarms": "swarms",
    "seeders": "seeders",
    "leechers": "leechers",
    "sockets": "sockets",
    "tcp_swarms": "swarms, TCP",
    "tcp_seeders": "seeders, TCP",
    "tcp_leechers": "leechers, TCP",
}
_SINCE = {
    "messages": "messages received",
    "announces": "announces",
    "offers": "offers passed on",
    "answers": "answers passed on",
    "refused": "messages refused",
}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

_STYLE = """
:root { color-scheme: light dark; --soft: light-dark(#5b6470, #9aa4b0);
  --line: light-dark(#d9dee4, #333b45); --card: light-dark(#ffffff, #1b2027); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 44rem; padding: 2rem 1rem; font: 1rem/1.5 system-ui, sans-serif;
  background: light-dark(#f4f6f8, #12161b); color: light-dark(#1a2027, #e6eaef); }
h1 { font-size: 1.4rem; margin: 0; }
p { color: var(--soft); margin: 0.25rem 0 1.5rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 0.75rem;
  margin: 0 0 1.5rem; }
div { background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem;
  padding: 0.75rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; font-size: 1.75rem; line-height: 1.2; }
dd, td { font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; background: var(--card);
  border: 1px solid var(--line); }
th, td { padding: 0.5rem 1rem; border-top: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; }
thead th { border: 0; color: var(--soft); }
th { font-weight: normal; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    # Even if something slipped into the page, it could load, run, send and frame nothing.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<title>dreamer-tracker</title>
<style>{style}</style>
</head>
<body>
<h1>dreamer-tracker</h1>
<p>version {version}, up for {uptime}; public swarms only</p>
<dl>
{now}
</dl>
<table>
<thead><tr><th>since the start</th><th>count</th><th>a second</th></tr></thead>
<tbody>
{since}
</tbody>
</table>
</body>
</html>
"""


def wants_page(accept: str) -> bool:
    """Return whether an ``Accept`` header names HTML: a browser's does, that of curl doesn't."""
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        if kind == "text/html":
            # A quality of nothing means "not this" (RFC 9110, section 12.4.2).
            return not any(p.startswith("q=") and not p.strip("q=0.") for p in parameters)
    return False


def page(counts: Mapping[str, int], uptime_s: float, version: str) -> str:
    """Return the page for these counts; of those it doesn't know it says nothing."""
    tiles = (f"<div><dt>{name}</dt><dd>{counts[key]:,}</dd></div>" for key, name in _NOW.items())
    rows = (
        f"<tr><th>{name}</th><td>{counts[key]:,}</td><td>{_rate(counts[key], uptime_s)}</td></tr>"
        for key, name in _SINCE.items()
    )
    return _PAGE.format(
        style=_STYLE,
        version=escape(version),
        uptime=_uptime(uptime_s),
        now="\n".join(tiles),
        since="\n".join(rows),
    )


def _rate(count: int, uptime_s: float) -> str:
    return f"{count / max(uptime_s, 1.0):,.1f}"


def _uptime(seconds: float) -> str:
    """Return a time in its two largest units, such as ``2 d 3 h``."""
    left = int(seconds)
    parts: list[str] = []
    for size_s, unit in _UNITS:
        count, left = divmod(left, size_s)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
