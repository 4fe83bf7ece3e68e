"""The figures of the pages, drawn by ``nondecoupling.plot``: ``make figures`` writes them.

The numbers that a figure shows are written into its SVG beside the drawing, and tests compare both with what the
library computes now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Annotation, Text
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from nondecoupling import bounds, plot
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe
from nondecoupling.theory import catalog

HERE = Path(__file__).parent
Numbers = dict[str, list]


# --- the trade-off between SFT loss and reward (Start here) -----------------------------------

DATA, REWARD, BETA = (0.5, 0.4, 0.1), (0.0, 2.0, 3.0), 0.6


def frontier() -> Figure:
    """The least SFT loss for each reward (S5), and the tilts from d on (S2), with ref = d."""
    log_d, reward = np.log(DATA), np.array(REWARD)
    figure, axes = plot.subplots(size=(7.2, 4.3))
    plot.frontier(
        log_d, reward, ax=axes, color=plot.BLUE, lw=2, alpha=1,
        label="least SFT loss of any policy (S5)",
    )  # fmt: skip
    plot.tilt_path(log_d, reward, beta=BETA, ax=axes, lw=2)
    plot.policies(log_d, log_d, reward, ax=axes, label="d, optimum of SFT")
    (x0, y0), (x1, y1) = (axes.lines[k].get_xydata()[0] for k in (-1, -2))
    price = float(bounds.price_of_reward(log_d, reward, x1))
    axes.plot(x1, y0 + price, "o", color=plot.BLUE, label="the least for the tilt's reward")
    arrow = dict(arrowstyle="->", color=plot.GREY, shrinkA=7, shrinkB=7)
    for start, end, bend in (((x0, y0), (x1, y1), -0.2), ((x1, y1), (x0, y0), 0.5)):
        curve = dict(connectionstyle=f"arc3,rad={bend}")
        axes.annotate("", end, start, arrowprops=arrow | curve)
    axes.text(1.72, 1.5, "RL raises\nthe SFT loss\n(S2)", color=plot.GREY)
    axes.text(1.42, 2.35, "SFT takes the\nreward back (R6)", color=plot.GREY, ha="right")
    axes.text(2.02, 0.3, "no policy is here", color=plot.GREY, style="italic")
    axes.set(xlim=(0.5, 3.0), ylim=(0, 4.8))
    return figure


# --- where trainers end (What your trainer converges to) ---------------------------------------

TREE = TokenTree(((0,), (1, 0), (1, 1)))  # the last two responses begin with the same token
SAME_BETA, BONUS = 0.6, 0.5


def trainers() -> Figure:
    """Where each recipe ends as beta falls, the path without a leash, and the frontier; ref = d."""
    log_d, reward = np.log(DATA), np.array(REWARD)

    def unscaled(leash: str, **more: float) -> Recipe:
        return Recipe("leave-one-out", leash, SAME_BETA, **more)

    named = {
        "k3 in the loss": unscaled("k3-in-loss"),
        "k1 in the reward": unscaled("k1-in-reward"),
        "k3 per token": (unscaled("k3-in-loss"), TREE),
        "k3 with ratio, per token": (unscaled("k3-with-ratio"), TREE),
        "k1 in the reward, entropy bonus": unscaled("k1-in-reward", entropy_bonus=BONUS),
    }
    figure, axes = plot.subplots(size=(7.2, 4.9))
    plot.frontier(log_d, reward, ax=axes)
    plot.recipes(log_d, reward, named, ax=axes)
    taus = np.geomspace(0.02, 60, 241)
    leashless = np.stack([bounds.leashless_policy(log_d, reward, tau) for tau in taus])
    plot.policies(log_d, leashless, reward, ax=axes, label="no leash, policy gradient")
    axes.set(xlim=(0.7, 3.0), ylim=(0.8, 4.4))
    axes.get_legend().set_title(f"where it ends; dots: beta = {SAME_BETA}")
    return figure


# --- schedules (Schedules that pay less) -------------------------------------------------------

SPEED = 1.2  # nu: RL time per share of SFT
WORLD = (0.5, 0.3, 0.2), (0.0, 1.0, 3.0)
STOPS = {"sft": "after SFT", "rl": "after RL", "half-rl": "after half of an RL phase"}


def schedules() -> Figure:
    """Left: overpaid shares of alternation against how fine it is. Right: ends of other schedules."""
    log_d, reward = np.log(WORLD[0]), np.array(WORLD[1])
    figure, (fine, ends) = plot.subplots(1, 2, size=(9.6, 4.2))

    def overpaid(log_p: np.ndarray) -> float:
        over = float(bounds.overpayment(log_d, log_p, reward))
        return over / (float(bounds.kl_divergence(log_d, log_p)) - over)

    shares = np.geomspace(0.02, 0.95, 41)
    for k, (stop, name) in enumerate(STOPS.items()):
        limits = [bounds.alternation_limit(log_d, reward, SPEED * eta, eta, stop) for eta in shares]
        fine.loglog(shares, [overpaid(p) for p in limits], lw=1.8, label=name, **plot.line(k))
    limit = bounds.alternation_limit(log_d, reward, SPEED * 1e-3, 1e-3, "half-rl")
    target = float(bounds.expected_reward(limit, reward))
    alone = overpaid(tilt_with_reward(log_d, reward, target))
    fine.axhline(alone, color=plot.GREY, lw=1, label="RL alone, reward of fine cycles")
    fine.set_xlabel("share of SFT in a cycle, eta (left: finer)")
    fine.set_ylabel("paid over the price of the reward, as a share")
    fine.legend(loc="lower right")

    run = bounds.gibbs_tilt(log_d, reward, 0.5)
    replayed = [np.log((1 - v) * np.exp(log_d) + v * np.exp(run)) for v in np.linspace(0, 1, 41)]
    best = [bounds.best_of_n_policy(log_d, reward, n) for n in range(1, 13)]
    weighted = [
        log_d + np.log(bounds.frontier_weights(log_d, reward, b)) for b in (0.3, 0.6, 1.2, 3)
    ]
    plot.frontier(log_d, reward, ax=ends, above_floor=True)
    betas = np.geomspace(0.5, 60, 41)
    plot.tilt_path(
        log_d, reward, betas=betas, ax=ends, above_floor=True, label="RL alone, exact optima"
    )
    for laws, name, look in (
        (replayed, "replay: mixtures of d and one tilt", {}),
        (best, "SFT on the best of n", dict(ls="", marker="s", color=plot.PURPLE, ms=5)),
        (weighted, "SFT, frontier weights", dict(ls="", marker="D", color=plot.BLUE, ms=5)),
    ):
        plot.policies(log_d, np.stack(laws), reward, ax=ends, above_floor=True, label=name, **look)
    ends.set(xlim=(0.85, 3.0), ylim=(-0.15, 3.4))
    return figure


def tilt_with_reward(log_d: np.ndarray, reward: np.ndarray, target: float) -> np.ndarray:
    def above(log_beta: float) -> float:
        tilt = bounds.gibbs_tilt(log_d, reward, np.exp(log_beta))
        return float(bounds.expected_reward(tilt, reward)) - target

    return bounds.gibbs_tilt(log_d, reward, np.exp(brentq(above, np.log(1e-2), np.log(1e2))))


# --- where SFT raises the raw reward (What is refuted) ----------------------------------------


def simplex() -> Figure:
    figure, axes = plot.subplots(size=(6.4, 5.9))
    plot.simplex(np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 2.0, ax=axes)
    return figure


# --- what rests on what (The theory) ----------------------------------------------------------

FAMILY = {"F": plot.GREY, "I": plot.GREY, "S": plot.BLUE, "R": plot.VERMILION, "P": plot.GREEN}
FAMILY |= {"D": plot.PURPLE, "J": plot.PURPLE, "T": "#00838f", "V": "#ad1457", "G": "#ad1457"}


def dependencies() -> Figure:
    """Each statement one row above the highest of those that it rests on."""
    places = dependency_places()
    figure, axes = plot.subplots(size=(7.6, 5.6))
    for x, y, below in places.values():
        for other in below:
            x0, y0, _ = places[other]
            axes.annotate(
                "", (x0, y0), (x, y),
                arrowprops=dict(arrowstyle="-", color="#b0b0b0", lw=1, shrinkA=9, shrinkB=9),
            )  # fmt: skip
    for id_, (x, y, _) in places.items():
        box = dict(boxstyle="round,pad=0.3", fc="white", ec=FAMILY[id_[0]], lw=1.5)
        axes.text(x, y, id_, ha="center", va="center", bbox=box, color=FAMILY[id_[0]], size=9)
    axes.set(xlim=(-0.5, 32.5), ylim=(-0.5, max(y for _, y, _ in places.values()) + 0.5))
    axes.axis("off")
    return figure


def dependency_places() -> Numbers:
    """Of each statement: place in its row, row, and what it rests on."""
    graph = catalog.dependencies()
    row: dict[str, int] = {}
    for id_ in catalog.dependency_order(graph):
        row[id_] = 1 + max((row[other] for other in graph[id_]), default=-1)
    order = list(graph)
    place = {id_: float(order.index(id_)) for id_ in order}
    for _ in range(40):  # each row in the order of the mean place of what its members touch
        touched = {
            id_: [place[o] for o in graph[id_]] + [place[k] for k in graph if id_ in graph[k]]
            for id_ in order
        }
        wish = {id_: float(np.mean(near)) if near else place[id_] for id_, near in touched.items()}
        for level in set(row.values()):
            members = sorted((i for i in order if row[i] == level), key=lambda i: (wish[i], i))
            for k, id_ in enumerate(members):
                place[id_] = (k + 0.5) * 32 / len(members)
    return {id_: [place[id_], row[id_], list(graph[id_])] for id_ in order}


# --- writing ----------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[], Figure]] = {
    "frontier": frontier,
    "trainers": trainers,
    "schedules": schedules,
    "simplex": simplex,
    "dependencies": dependencies,
}


def draw(name: str) -> tuple[Numbers, Figure]:
    with plot.in_style():
        figure = FIGURES[name]()
    return numbers_of(figure), figure


def numbers_of(figure: Figure) -> Numbers:
    """Where the curves, the areas and the words of a figure are, in its own units."""
    found: Numbers = {}
    for side, axes in enumerate(figure.axes):
        drawn = {f"{side} {k} {x.get_label()}": x.get_xydata() for k, x in enumerate(axes.lines)}
        areas = [patch for patch in axes.patches if isinstance(patch, Polygon)]
        drawn |= {f"{side} area {k} {x.get_label()}": x.get_xy() for k, x in enumerate(areas)}
        words = {f"{side} text {k} {x.get_text()}": _place(x) for k, x in enumerate(axes.texts)}
        found |= {key: _nine_digits(value) for key, value in (drawn | words).items()}
    return found


def _place(text: Text) -> tuple[float, float]:
    return text.xy if isinstance(text, Annotation) else text.get_position()


def _nine_digits(points: ArrayLike) -> list:
    rounded = np.vectorize(lambda x: float(f"{x:.9g}"))(points)
    return rounded.tolist()


def write(name: str, path: Path) -> None:
    numbers, figure = draw(name)
    note = json.dumps(numbers, separators=(",", ":"))
    with plot.in_style():
        path.write_text(plot.svg(figure, salt=name, note=note))


def written_numbers(path: Path) -> Numbers:
    """The numbers that a figure was drawn from, as it carries them."""
    match = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(), re.DOTALL)
    assert match, f"{path.name} carries no numbers"
    return json.loads(match[1].replace("&quot;", '"'))


if __name__ == "__main__":
    for figure_name in FIGURES:
        write(figure_name, HERE / f"{figure_name}.svg")
