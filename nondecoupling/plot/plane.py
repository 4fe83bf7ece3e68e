"""The plane of reward and SFT loss: the frontier, paths of RL, where trainers end, policies of one's own.

Arguments are the world, as in ``bounds``: laws as log-probabilities and rewards, ``[n]`` for one prompt or
``[prompts, n]``, averaged over prompts that are equally likely, or as ``weights`` say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import FloatArray, MaskLike, TensorLike
from nondecoupling.bounds.price import shares_of_prompts
from nondecoupling.numbers.floats import is_torch
from nondecoupling.plot.style import BLACK, line, long_names, on_axes
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REWARD = "expected reward J(p)"
LOSS = "SFT loss CE(d, p), nats per response"
ABOVE = "SFT loss above H(d), nats per response"
# How far paths go, in parts of the way from J(ref) to the highest reward.
FAR = 0.98
# Rates of the frontier, times the range of the reward: from nearly J(d) to 99 % of the way.
RATES = (1e-2, 1e2)
# Of betas, over the range of the reward: from nearly none of the way to nearly all of it.
BETAS = (1e-2, 1e2)


@dataclass(frozen=True)
class Prompts:
    """d and the rewards, ``[prompts, n]``, and how often each prompt comes, ``[prompts]``."""

    log_d: np.ndarray
    reward: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(
        cls,
        log_d: TensorLike,
        reward: TensorLike,
        weights: TensorLike | None,
        mask: MaskLike | None = None,
    ) -> Prompts:
        data, values = np.broadcast_arrays(as_numpy(log_d), as_numpy(reward))
        if data.ndim not in (1, 2):
            raise ValueError(
                f"log_d, reward {data.shape}: give [responses] or [prompts, responses]"
            )
        data, values = np.atleast_2d(data), np.atleast_2d(values)
        if mask is not None:  # padding has the least reward that counts, as in ``bounds``
            counts = np.broadcast_to(as_numpy(mask), values.shape)
            least = np.where(counts, values, np.inf).min(axis=-1, keepdims=True)
            values = np.where(counts, values, least)
        checked = Arguments(laws={"log_d": data}, reals={"reward": values})
        return cls(data, values, np.asarray(shares_of_prompts(checked, weights))[:, 0])

    def reward_of(self, laws: np.ndarray) -> FloatArray:
        """J of laws ``[..., prompts, n]``, ``[...]``."""
        return np.asarray(bounds.expected_reward(laws, self.reward) @ self.shares)

    def loss_of(self, laws: np.ndarray, above_floor: bool) -> FloatArray:
        """CE(d, p), or what it is above H(d)."""
        of_each = bounds.kl_divergence if above_floor else bounds.cross_entropy
        return np.asarray(of_each(self.log_d, laws) @ self.shares)

    def betas(self, given: TensorLike | None, ref: np.ndarray) -> FloatArray:
        """``[points]``, falling; by the widest range of rewards that ref can give, where none are given."""
        if given is not None:
            return np.sort(np.asarray(as_numpy(given), float).reshape(-1))[::-1]
        met = np.where(ref > -np.inf, self.reward, np.nan)
        widest = float((np.nanmax(met, axis=-1) - np.nanmin(met, axis=-1)).max())
        return np.geomspace(BETAS[1], BETAS[0], 161) * (widest or 1.0)

    @property
    def spread(self) -> float:
        """The widest range of rewards of a prompt."""
        return float(np.ptp(self.reward, axis=-1).max()) or 1.0

    def not_too_far(self, laws: np.ndarray, ref: np.ndarray) -> np.ndarray:
        """Which of ``laws`` have not gone all but the whole way from ref to the highest reward that ref can give."""
        start = self.reward_of(ref)
        best = np.where(ref > -np.inf, self.reward, -np.inf).max(axis=-1) @ self.shares
        return np.asarray(self.reward_of(laws) <= start + FAR * (best - start))


def as_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if is_torch(x) else np.asarray(x)


def starts(log_ref: TensorLike | None, prompts: Prompts) -> np.ndarray:
    """ref, ``[prompts, n]``: d where none is given."""
    if log_ref is None:
        return prompts.log_d
    return np.broadcast_to(as_numpy(log_ref), prompts.log_d.shape)


def frontier(
    log_d: TensorLike,
    reward: TensorLike,
    *,
    ax: Axes | None = None,
    points: int = 129,
    weights: TensorLike | None = None,
    mask: MaskLike | None = None,
    above_floor: bool = False,
    **style: Any,
) -> Axes:
    """The least SFT loss of any policy for each reward, grey where no policy can be (S5).

    Prompts buy reward at one rate, from J(d) up to just below the highest reward, where the loss is infinite;
    ``points`` rates are drawn. ``above_floor`` draws losses less H(d),
    their smallest value. ``style`` goes to ``Axes.plot``.

    Shapes: log_d, reward ``[n]`` or ``[prompts, n]``, weights ``[prompts]``, mask as reward. Units: nats per
    response. Errors: those of ``bounds.frontier_policy``; axes that show losses from another zero. Source: S5.

    >>> ax = frontier(np.log([0.5, 0.5]), np.array([0.0, 1.0]), points=5)
    >>> ax.lines[0].get_xdata().round(3).tolist()
    [0.5, 0.502, 0.525, 0.707, 0.952, 0.995]
    """
    prompts = Prompts.of(log_d, reward, weights, mask)
    rates = np.geomspace(*RATES, points) / prompts.spread
    best = bounds.frontier_policy(
        prompts.log_d[None], prompts.reward[None], rates[:, None], mask=mask
    ).log_p
    laws = np.concatenate([prompts.log_d[None], best])
    reached, loss = prompts.reward_of(laws), prompts.loss_of(laws, above_floor)
    floor = float(loss[0])
    ax = _labelled(ax, above_floor)
    look = {"color": BLACK, "linewidth": 4, "alpha": 0.25, "label": "least of any policy (S5)"}
    ax.plot(reached, loss, **{**look, **long_names(style)})
    grey: dict[str, Any] = {"color": "#eeeeee", "linewidth": 0, "zorder": 0}
    ax.fill_between(reached, loss, floor, **grey)
    # Whatever the reward, nothing is below H(d).
    below = floor - 0.5 * float(loss[-1] - floor)
    ax.axhspan(below if above_floor else max(below, 0.0), floor, **grey)
    return _legend(ax)


def policies(
    log_d: TensorLike,
    log_p: TensorLike,
    reward: TensorLike,
    *,
    ax: Axes | None = None,
    weights: TensorLike | None = None,
    above_floor: bool = False,
    **style: Any,
) -> Axes:
    """Policies in the plane: one is a dot, several along a leading axis are a line; ``style`` goes to ``Axes.plot``.

    Shapes: log_d, reward ``[n]`` or ``[prompts, n]``, log_p as log_d or with a leading axis ``[points, ...]``. Units:
    nats per response. Errors: those of ``bounds.cross_entropy``; axes that show losses from another zero.

    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> ax = policies(d, np.log([0.2, 0.8]), r, label="mine")
    >>> ax.lines[0].get_xydata().round(3).tolist()
    [[0.8, 0.916]]
    """
    prompts = Prompts.of(log_d, reward, weights)
    laws = as_numpy(log_p)
    laws = laws.reshape(-1, *prompts.log_d.shape)
    ax = _labelled(ax, above_floor)
    look = _next(ax) if len(laws) > 1 else {"marker": "o", "color": BLACK, "linestyle": ""}
    x, y = prompts.reward_of(laws), prompts.loss_of(laws, above_floor)
    ax.plot(x, y, **{**look, **long_names(style)})
    return _legend(ax)


def tilt_path(
    log_d: TensorLike,
    reward: TensorLike,
    *,
    log_ref: TensorLike | None = None,
    beta: float | None = None,
    betas: TensorLike | None = None,
    ax: Axes | None = None,
    weights: TensorLike | None = None,
    above_floor: bool = False,
    **style: Any,
) -> Axes:
    """Exact optima of KL-regularised RL from ``log_ref`` (without it: from d) as beta falls; a diamond at ``beta``.

    Without ``betas`` the path goes 98 % of the way from ref's reward to the highest that ref can give.

    Shapes: log_d, log_ref, reward ``[n]`` or ``[prompts, n]``, betas ``[points]``. Units: beta in reward units per nat.
    Errors: those of ``bounds.gibbs_tilt``; axes that show losses from another zero. Source: S2, S4.

    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> ax = tilt_path(d, r, beta=1.0)
    >>> [line.get_label() for line in ax.lines]
    ['exact RL optima, beta falling', 'tilt at beta = 1']
    """
    prompts = Prompts.of(log_d, reward, weights)
    ref = starts(log_ref, prompts)
    tilts = bounds.gibbs_tilt(ref[None], prompts.reward[None], prompts.betas(betas, ref)[:, None])
    tilts = np.concatenate([ref[None], tilts])
    if betas is None:
        tilts = tilts[prompts.not_too_far(tilts, ref)]
    shared: dict[str, Any] = {"weights": weights, "above_floor": above_floor}
    look = {"label": "exact RL optima, beta falling", **style}
    ax = policies(log_d, tilts, reward, ax=ax, **shared, **look)
    if beta is not None:
        here = bounds.gibbs_tilt(ref, prompts.reward, beta)
        mark: dict[str, Any] = {
            "marker": "D",
            "color": ax.lines[-1].get_color(),
            "label": f"tilt at beta = {beta:g}",
        }
        policies(log_d, here, reward, ax=ax, **shared, **mark)
    return ax


def recipes(
    log_d: TensorLike,
    reward: TensorLike,
    named: Mapping[str, Recipe | tuple[Recipe, TokenTree]],
    *,
    log_ref: TensorLike | None = None,
    betas: TensorLike | None = None,
    ax: Axes | None = None,
    weights: TensorLike | None = None,
    above_floor: bool = False,
) -> Axes:
    """Where RL with each recipe ends as its beta falls, and a dot where it ends at the beta that it has.

    ``named`` gives a recipe for each label, or a recipe and the token tree on which its penalties act. A curve
    stops where no policy is stationary any more. RL starts at ``log_ref``; without it, at d.

    Shapes: log_d, log_ref, reward ``[n]`` or ``[prompts, n]``, betas ``[points]``. Units: beta in reward units per nat.
    Errors: those of ``bounds.stationary_policy``; a recipe that is stationary at no beta. Source: T2, T3, T4, T11.

    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> ax = recipes(d, r, {"GRPO": Recipe("group-normalised", "k3-in-loss", 0.1)})
    >>> [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    ['GRPO']
    """
    prompts = Prompts.of(log_d, reward, weights)
    ref = starts(log_ref, prompts)
    shared: dict[str, Any] = {"weights": weights, "above_floor": above_floor}
    ax = _labelled(ax, above_floor)
    for name, given in named.items():
        recipe, tree = given if isinstance(given, tuple) else (given, None)
        found = [
            bounds.stationary_policy(ref, prompts.reward, replace(recipe, beta=beta), tree)
            for beta in prompts.betas(betas, ref).tolist()
        ]
        ends = [end.log_p for end in found if end.stationary.all()]
        if not ends:
            raise ValueError(f"named[{name!r}]: {found[-1].why}; leave it out")
        laws = np.stack(ends)
        if betas is None:
            laws = laws[prompts.not_too_far(laws, ref)]
        policies(log_d, laws, reward, ax=ax, **shared, label=name)
        own = bounds.stationary_policy(ref, prompts.reward, recipe, tree)
        if own.stationary.all():
            mark: dict[str, Any] = {
                "color": ax.lines[-1].get_color(),
                "markersize": 5,
                "label": "_at its own beta",
            }
            policies(log_d, own.log_p, reward, ax=ax, **shared, **mark)
    return ax


def sharing_a_label(points: np.ndarray, near: float = 0.03) -> dict[int, list[int]]:
    """Points that lie on top of each other: the first one of each group, and all of the group.

    ``near`` in parts of the spread of each coordinate. Shapes: points ``[n, 2]``.

    >>> sharing_a_label(np.array([[0.0, 0.0], [1.0, 1.0], [0.01, 0.0]]))
    {0: [0, 2], 1: [1]}
    """
    size = np.maximum(np.ptp(points, axis=0), 1e-12)
    groups: dict[int, list[int]] = {}
    for index, point in enumerate(points):
        close = [k for k in groups if np.abs((points[k] - point) / size).max() < near]
        groups.setdefault(close[0] if close else index, []).append(index)
    return groups


def _next(ax: Axes) -> dict[str, Any]:
    """The style of a curve is that of its place among those that the axes show."""
    curves = sum(x.get_linestyle() != "None" for x in ax.lines)
    return {"linewidth": 1.8, **line(curves)}


def _labelled(ax: Axes | None, above_floor: bool) -> Axes:
    ax = on_axes(ax)
    label = ABOVE if above_floor else LOSS
    other = LOSS if above_floor else ABOVE
    if ax.get_ylabel() == other:
        raise ValueError(
            f"above_floor={above_floor}: the axes show {other!r} already; give the same to all, or other axes"
        )
    ax.set_xlabel(REWARD)
    ax.set_ylabel(label)
    return ax


def _legend(ax: Axes) -> Axes:
    if not ax.get_legend_handles_labels()[0]:
        return ax
    ax.legend(loc="upper left", frameon=False)
    return ax
