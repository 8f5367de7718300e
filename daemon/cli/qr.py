"""A text as a QR code that a terminal can show: two rows of dots in one line of half blocks."""

from __future__ import annotations

_BLOCKS = {
    (True, True): "\N{FULL BLOCK}",
    (True, False): "\N{UPPER HALF BLOCK}",
    (False, True): "\N{LOWER HALF BLOCK}",
    (False, False): " ",
}
_QUIET_DOTS = 1
"""The standard asks for 4. Cameras do with 1, and the code of a usual text has 24 lines then."""

_WHITE_ON_BLACK, _AS_BEFORE = "\x1b[97;40m", "\x1b[0m"


def lines(text: str, coloured: bool) -> list[str]:
    """Return the lines of the code, its light dots as blocks.

    ``coloured`` says so to a terminal, whose background may be light, too. Capitals, digits and
    ``-.:`` take a third less room than other letters.
    """
    # segno draws in 0.1 s of imports, which no other command should wait for.
    import segno

    code = segno.make(text, error="l", micro=False, boost_error=False)
    rows = [list(row) for row in code.matrix]
    width = len(rows) + 2 * _QUIET_DOTS
    light = [[True] * width for _ in range(width + width % 2)]
    for y, row in enumerate(rows, _QUIET_DOTS):
        for x, dark in enumerate(row, _QUIET_DOTS):
            light[y][x] = not dark
    if width % 2:
        light[-1] = [False] * width
    drawn = (
        "".join(_BLOCKS[upper, lower] for upper, lower in zip(*light[y : y + 2], strict=True))
        for y in range(0, len(light), 2)
    )
    return [f"{_WHITE_ON_BLACK}{line}{_AS_BEFORE}" if coloured else line for line in drawn]
