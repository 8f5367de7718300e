"""matplotlib's SVG, mended for pages: no styles that a strict Content-Security-Policy forbids, no
names that clash with those of the next picture, ink that follows a page from light to dark."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What is parsed is what matplotlib has just written, never a file from elsewhere.
from xml.etree import ElementTree as ET

INK = "#22282f"
PAPER = "#ffffff"

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"#([\w-]+)\b")
# matplotlib says the first two in a <style> and the fonts at every text; from the root they are
# inherited.
_ROOT_ATTRIBUTES = {
    "stroke-linejoin": "round",
    "stroke-linecap": "butt",
    "font-family": "'DejaVu Sans', Verdana, Arial, sans-serif",
    "role": "img",
    "xmlns": _SVG.strip("{}"),
}


@dataclass(frozen=True)
class Drawing:
    """A picture; ``file`` stands alone, ``inline`` goes into an HTML page.

    Inline, ink is ``currentColor`` and there is no paper: it is read on light and on dark.
    """

    file: str

    @property
    def inline(self) -> str:
        """The same for a page that has its own ink and paper."""
        body = self.file.split("?>\n", 1)[1].replace(INK, "currentColor")
        body = body.replace(f'fill="{PAPER}"', 'fill="none"')
        # The page says how wide it is.
        return re.sub(r' (?:height|width)="[\d.]+pt"', "", body, count=2)


def cleaned(raw: str, title: str) -> Drawing:
    """Return matplotlib's ``raw`` SVG mended; ``title`` is what a screen reader says."""
    root = ET.fromstring(raw)  # noqa: S314
    for parent in root.iter():
        for child in [one for one in parent if _is_needless(one)]:
            parent.remove(child)
    prefix = re.sub(r"\W+", "-", title.lower()).strip("-")
    kept = set(_REFERENCE.findall(raw))
    for element in root.iter():
        _mend(element, prefix, kept)
    for key, value in _ROOT_ATTRIBUTES.items():
        root.set(key, value)
    name = ET.Element("title")
    name.text = title
    root.insert(0, name)
    text = ET.tostring(root, encoding="unicode")
    return Drawing(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _is_needless(element: ET.Element) -> bool:
    return element.tag in (f"{_SVG}metadata", f"{_SVG}style")


def _mend(element: ET.Element, prefix: str, kept: set[str]) -> None:
    # Without a namespace in the tag, the writer makes up no prefix for it.
    element.tag = element.tag.removeprefix(_SVG)
    # A presentation attribute says the same as a style, and no policy forbids it.
    for rule in element.attrib.pop("style", "").split(";"):
        key, _, value = rule.partition(":")
        if value and key.strip() != "font-family":
            element.set(key.strip(), value.strip())
    # Plain href is SVG 2, which every browser of the last years reads.
    if _XLINK_HREF in element.attrib:
        element.set("href", element.attrib.pop(_XLINK_HREF))
    if element.get("id") not in kept:
        element.attrib.pop("id", None)
    for key in ("id", "href", "clip-path"):
        name = element.get(key)
        if name is not None:
            named = _REFERENCE.sub(rf"#{prefix}-\1", name)
            element.set(key, f"{prefix}-{name}" if key == "id" else named)
