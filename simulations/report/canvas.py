"""What every picture is drawn on: one style, one palette, the same bytes for the same run.

matplotlib is an extra and takes a second to import: it is imported when a picture is made, by its
object-oriented API alone (pyplot keeps every figure and a global state).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dreamer.protocol.errors import InputError
from dreamer.simulations.report import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = svg.INK
PAPER = svg.PAPER
LANE_COLOURS = {
    "direct": "#0072b2",
    "webrtc": "#56b4e9",
    "torrent": "#009e73",
    "relay": "#e69f00",
    "origin": "#d55e00",
}
"""Of Okabe and Ito's palette (2008), which people with any of the usual colour blindnesses can
tell apart. Blue and green is from peers, orange and red costs money."""
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OTHER_COLOUR = "#8c8c8c"

_WIDTH_IN, _HEIGHT_IN = 7.2, 3.7
_PNG_DPI = 150
_STYLE: dict[str, object] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.12,
    "font.size": 10.5,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": PAPER,
    # Letters stay letters: small files, text that can be searched and read aloud.
    "svg.fonttype": "none",
    # Without it the names of clip paths are drawn anew in every process.
    "svg.hashsalt": "dreamer",
    "text.color": INK,
    # A dollar sign in a label is a dollar sign.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def require_pictures() -> None:
    """Make sure that pictures can be drawn: to be asked before a long run, not after it.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("pictures need matplotlib: pip install 'dreamer[sim]'") from error


def as_svg(draw: Callable[[Axes], None], title: str) -> svg.Drawing:
    """Return what ``draw`` draws as SVG.

    Raises:
        InputError: matplotlib is not installed.
    """
    raw = io.StringIO()
    with _drawn(draw, title) as figure:
        figure.savefig(raw, format="svg", metadata=dict.fromkeys(_SVG_METADATA))
    return svg.cleaned(raw.getvalue(), title)


_SVG_METADATA = ("Creator", "Date", "Format", "Type")


def as_png(draw: Callable[[Axes], None], title: str) -> bytes:
    """Return what ``draw`` draws as PNG.

    Raises:
        InputError: matplotlib is not installed.
    """
    raw = io.BytesIO()
    with _drawn(draw, title) as figure:
        figure.savefig(raw, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return raw.getvalue()


@contextmanager
def _drawn(draw: Callable[[Axes], None], title: str) -> Iterator[Figure]:
    """Give a figure in our style, whatever this machine's matplotlibrc says."""
    require_pictures()
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # Models and groups may be named in scripts that the built-in font doesn't have: the SVG
        # names them all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Without a canvas of a window system, a figure is drawn by Agg.
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.grid(visible=True, axis="y")
        draw(axes)
        yield figure
