"""Colours and settings that all plots share, and a figure as PNG bytes."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

__all__ = ["BOUND", "INK", "OBSERVED", "PREDICTED", "SECOND", "in_style", "plt", "png"]

INK, OBSERVED, SECOND, PREDICTED, BOUND = "#222222", "#1f5fa8", "#3f8f6b", "#c8641b", "#a02c5a"


def in_style() -> AbstractContextManager[None]:
    return plt.rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "legend.frameon": False,
            "legend.fontsize": 8,
        }
    )


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without a date and a version the same run gives the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
