"""Colours, line styles and settings of all plots, and a figure as SVG. matplotlib is imported at the first use."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; without their yellow, which white swallows.
BLACK, GREY = "#000000", "#757575"
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY = "#e69f00", "#56b4e9"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# Six styles beside seven colours: 42 curves differ in the pair, and neighbours in both.
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)))


def matplotlib() -> Any:
    """The package, or the remedy where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError(
            "nondecoupling.plot needs matplotlib: pip install 'nondecoupling[plot]'"
        ) from None
    return matplotlib


def line(place: int) -> dict[str, Any]:
    """Colour and line style of the curve with this number, counted from 0.

    >>> line(1)
    {'color': '#d55e00', 'linestyle': '--'}
    """
    return {"color": COLORS[place % len(COLORS)], "linestyle": DASHES[place % len(DASHES)]}


def in_style() -> AbstractContextManager[None]:
    """A context in which figures have the fonts, spines, colours and legends of the project."""
    from_package: Any = matplotlib()
    lines = [line(place) for place in range(len(DASHES))]
    cycle = {name: [look[name] for look in lines] for name in ("color", "linestyle")}
    # matplotlib's own dependency; importing it up here would need matplotlib.
    from cycler import cycler

    settings: AbstractContextManager[None] = from_package.rc_context(
        {
            "axes.prop_cycle": cycler(**cycle),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "font.size": 9,
            "legend.fontsize": 8,
            "legend.frameon": False,
        }
    )
    return settings


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any) -> Any:
    """A figure and its axes, as pyplot's ``subplots``, that no window and no global list of figures holds.

    ``size`` in inches. The figure is freed with the last name for it, so a loop may draw thousands.
    """
    matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def on_axes(ax: Axes | None) -> Axes:
    """The axes that were given, or new ones, which notebooks and ``pyplot.show`` display."""
    matplotlib()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, new = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    new.spines[["top", "right"]].set_visible(False)
    return new


def long_names(style: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of a line by their long names, so that one given as ``lw`` takes the place of a ``linewidth``."""
    matplotlib()
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return dict(normalize_kwargs(dict(style), Line2D))


def svg(figure: Figure, *, salt: str = "nondecoupling", note: str | None = None) -> str:
    """The figure as SVG text: the same for the same figure, without date or random names.

    Args:
        salt: sets the names inside the file apart from those of another SVG on the same page.
        note: kept as its description, for example the numbers that it was drawn from.
    """
    package = matplotlib()
    buffer = io.BytesIO()
    about = {"Date": None, "Creator": f"matplotlib {package.__version__}", "Description": note}
    with package.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=about)
    return re.sub(r"[ \t]+$", "", buffer.getvalue().decode(), flags=re.MULTILINE)
