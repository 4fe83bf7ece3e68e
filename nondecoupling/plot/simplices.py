"""Three responses as the corners of a triangle: where a little SFT raises the reward, and where it cannot (R3, R5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.bounds.arrays import TensorLike
from nondecoupling.plot.plane import as_numpy
from nondecoupling.plot.style import BLACK, BLUE, VERMILION, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Where the name of a corner stands.
NAMES = (((-0.02, -0.06), "left"), ((0.02, -0.06), "right"), ((0.0, 0.03), "center"))


def simplex(
    log_ref: TensorLike, reward: TensorLike, beta: float, *, ax: Axes | None = None
) -> Axes:
    """The laws of three responses: ref, its tilt, the level line of the tilt's reward, and a KL ball.

    SFT moves the tilt towards d, so it raises the reward where d lies beyond the level line (R5). No d in the
    ball KL(d||ref) <= KL(tilt||ref) does (R3).

    Shapes: log_ref, reward ``[3]``, full support, rewards not all equal. Units: beta in reward units per nat. Errors:
    those of ``bounds.gibbs_tilt``; another number of responses, or a constant reward. Source: R3, R5.

    >>> ax = simplex(np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 2.0)
    >>> [text.get_text() for text in ax.texts][:2]
    ['ref', 'tilt']
    """
    ref, rewards = as_numpy(log_ref), as_numpy(reward).astype(float)
    if ref.shape != (3,) or rewards.shape != (3,):
        raise ValueError(
            f"log_ref {ref.shape}, reward {rewards.shape}: a triangle has three responses, one prompt"
        )
    if not np.isfinite(ref).all():
        raise ValueError(
            "log_ref: full support is assumed; with two responses there is no triangle"
        )
    if np.ptp(rewards) == 0:
        raise ValueError(f"reward={rewards.tolist()}: constant, so that no law has another reward")
    tilt = bounds.gibbs_tilt(ref, rewards, beta)
    kept = float(bounds.expected_reward(tilt, rewards))
    above = rewards > kept
    if not above.any():
        raise ValueError(
            f"beta={beta}: the tilt is all but the best response; choose a larger beta"
        )
    level = [
        _mixture(worse, better, (kept - rewards[worse]) / (rewards[better] - rewards[worse]))
        for worse, better in product(
            np.flatnonzero(~above).tolist(), np.flatnonzero(above).tolist()
        )
    ]
    radius = float(bounds.kl_divergence(tilt, ref))
    ball = boundary(ref, radius, np.linspace(0, 2 * np.pi, 121))
    corners = list(np.eye(3))
    ax = on_axes(ax)
    for side, color, hatch, name in (
        (above, "#fbe7d9", "..", "SFT raises the reward (R5)"),
        (~above, "#f0f0f0", "", "SFT lowers the reward"),
    ):
        region = around([*level, *(corners[k] for k in np.flatnonzero(side))])
        look: dict[str, Any] = {"facecolor": color, "hatch": hatch, "edgecolor": "#e8b796"}
        ax.fill(*places(region), linewidth=0, label=name, **look)
    inside = "it must: KL(d || ref) is at most that of the tilt (R3)"
    ax.fill(*places(ball), facecolor="#bfdcec", edgecolor=BLUE, ls="-", lw=1.5, label=inside)
    ax.plot(*places(level), color=VERMILION, ls="-", lw=2, label="reward of the tilt")
    ax.plot(*places([*corners, corners[0]]), color=BLACK, ls="-", lw=1)
    for law, name, marker, color, shift in (
        (ref, "ref", "o", BLACK, (-24, -10)),
        (tilt, "tilt", "D", VERMILION, (8, 4)),
    ):
        (x,), (y,) = places([np.exp(law)])
        ax.plot(x, y, marker, color=color)
        ax.annotate(name, (x, y), shift, textcoords="offset points")
    for (x, y), value, ((right, up), end) in zip(CORNERS, rewards, NAMES, strict=True):
        ax.text(x + right, y + up, f"all mass on r = {value:g}", ha=end)
    ax.set_aspect("equal")
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.1, 0.95))
    ax.axis("off")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, frameon=False)
    return ax


def places(laws: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Of laws ``[k, 3]``, as ``[2, k]``."""
    return (np.array(laws) @ CORNERS).T


def around(laws: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The laws in the order in which they go round their middle, so that they outline a region."""
    x, y = places(laws)
    order = np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
    return [laws[k] for k in order]


def boundary(log_ref: np.ndarray, radius: float, angles: np.ndarray) -> np.ndarray:
    """The laws p with KL(p||ref) = radius in these directions, ``[k, 3]``, or the edge of the triangle."""
    ref = np.exp(log_ref)
    turns = np.array([0.0, 2.0, -2.0]) * np.pi / 3
    steps = np.cos(angles[:, None] - turns)  # each sums to zero
    room = np.where(steps < 0, ref / np.where(steps < 0, -steps, 1.0), np.inf)
    low = np.zeros((len(angles), 1))
    high = room.min(axis=1, keepdims=True) * (1 - 1e-12)
    for _ in range(60):
        middle = 0.5 * (low + high)
        laws = np.log(np.maximum(ref + middle * steps, 0.0))
        inside = (bounds.kl_divergence(laws, np.broadcast_to(log_ref, laws.shape)) < radius)[
            :, None
        ]
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(ref + low * steps)


def _mixture(worse: int, better: int, share: float) -> np.ndarray:
    law = np.zeros(3)
    law[worse], law[better] = 1 - share, share
    return law
