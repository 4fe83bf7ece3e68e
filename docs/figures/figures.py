"""The figures of the pages, computed by the library: ``make figures`` writes them.

Each figure has its numbers in a function of its own. They are written into the SVG beside the
drawing, and tests compare both with what the library computes now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nondecoupling import bounds
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe
from nondecoupling.theory import catalog

HERE = Path(__file__).parent
Numbers = dict[str, list]

BLUE, ORANGE, GREEN, GREY = "#3f51b5", "#d95f02", "#1b7837", "#757575"
# Okabe and Ito's colours, each with a line of its own, for figures with many curves.
LINES = [
    dict(color="#0072b2", ls="-"),
    dict(color="#d55e00", ls="--"),
    dict(color="#009e73", ls="-."),
    dict(color="#cc79a7", ls=":"),
    dict(color="#e69f00", ls=(0, (5, 1, 1, 1, 1, 1))),
    dict(color="#56b4e9", ls=(0, (3, 1))),
]


# --- the trade-off between SFT loss and reward (Start here) -----------------------------------

DATA, REWARD, BETA = (0.5, 0.4, 0.1), (0.0, 2.0, 3.0), 0.6


def frontier_numbers() -> Numbers:
    """The least SFT loss for each reward (S5), and the tilts from d on (S2), with ref = d."""
    log_d, reward = np.log(DATA), np.array(REWARD)
    loss, reached = bounds.pareto_frontier(log_d, reward, points=81)
    betas = np.geomspace(0.3, 100, 81)
    path = bounds.gibbs_tilt(log_d, reward, betas)
    tilt = bounds.gibbs_tilt(log_d, reward, BETA)
    at_tilt = float(bounds.expected_reward(tilt, reward))
    floor = float(bounds.entropy(log_d))
    return {
        "frontier": [reached.tolist(), loss.tolist()],
        "tilt path": [
            bounds.expected_reward(path, reward).tolist(),
            bounds.cross_entropy(log_d, path).tolist(),
        ],
        "data law": [float(bounds.expected_reward(log_d, reward)), floor],
        "tilt": [at_tilt, float(bounds.cross_entropy(log_d, tilt))],
        "price": [at_tilt, floor + float(bounds.price_of_reward(log_d, reward, at_tilt))],
    }


def draw_frontier(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(7.2, 4.3), layout="constrained")
    axes = figure.subplots()
    top = 4.2
    rewards, losses = (np.array(x) for x in numbers["frontier"])
    below = np.append(0.0, rewards), np.append(losses[0], losses)  # the floor H(d), then the curve
    axes.fill_between(*below, 0, color="#eeeeee", lw=0)
    axes.plot([0, rewards[0]], [losses[0]] * 2, color=BLUE, lw=1, ls=":")
    axes.plot(rewards, losses, color=BLUE, lw=2, label="least SFT loss of any policy (S5)")
    axes.plot(
        *numbers["tilt path"],
        "--",
        color=ORANGE,
        lw=2,
        label=f"exact RL optima, beta falling; tilt at beta = {BETA}",
    )
    (x0, y0), (x1, y1) = numbers["data law"], numbers["tilt"]
    axes.plot(x0, y0, "o", color="black")
    axes.plot(x1, y1, "D", color=ORANGE)
    axes.plot(*numbers["price"], "o", color=BLUE)
    shape = dict(arrowstyle="->", color=GREY, shrinkA=7, shrinkB=7)
    for start, end, bend in (((x0, y0), (x1, y1), -0.2), ((x1, y1), (x0, y0), 0.5)):
        curve = dict(connectionstyle=f"arc3,rad={bend}")
        axes.annotate("", end, start, arrowprops=shape | curve)
    axes.annotate("d, optimum of SFT", (x0, y0), (x0 - 0.05, y0 - 0.32), ha="right")
    axes.annotate("tilt", (x1, y1), (x1 + 0.05, y1 - 0.06), color=ORANGE)
    axes.text(1.72, 1.5, "RL raises\nthe SFT loss\n(S2)", color=GREY, size=9)
    axes.text(1.42, 2.55, "SFT takes the\nreward back (R6)", color=GREY, ha="right", size=9)
    axes.text(2.02, 0.3, "no policy is here", color=GREY, style="italic")
    axes.set(xlim=(0.5, 3.0), ylim=(0, top))
    axes.set_xlabel("expected reward J(p)")
    axes.set_ylabel("SFT loss CE(d, p), nats per response")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


# --- where trainers end (What your trainer converges to) ---------------------------------------

TREE = TokenTree(((0,), (1, 0), (1, 1)))  # the last two responses begin with the same token
SAME_BETA, BONUS = 0.6, 0.5


def trainer_recipes(beta: float) -> dict[str, tuple[Recipe, TokenTree | None]]:
    def unscaled(leash, **more):
        return Recipe("leave-one-out", leash, beta, **more)

    return {
        "k3 in the loss": (unscaled("k3-in-loss"), None),
        "k1 in the reward": (unscaled("k1-in-reward"), None),
        "k3 per token": (unscaled("k3-in-loss"), TREE),
        "k3 with ratio, per token": (unscaled("k3-with-ratio"), TREE),
        "k1 in the reward, entropy bonus": (unscaled("k1-in-reward", entropy_bonus=BONUS), None),
    }


def loss_and_reward(log_p: np.ndarray) -> list[float]:
    log_d, reward = np.log(DATA), np.array(REWARD)
    return [float(bounds.expected_reward(log_p, reward)), float(bounds.cross_entropy(log_d, log_p))]


def trainer_numbers() -> Numbers:
    """Where each recipe ends as beta falls, the path without a leash, and the frontier; ref = d."""
    log_d, reward = np.log(DATA), np.array(REWARD)
    loss, reached = bounds.pareto_frontier(log_d, reward, points=81)
    numbers: Numbers = {"frontier": [reached.tolist(), loss.tolist()]}
    betas = np.geomspace(0.18, 60, 61)
    for name in trainer_recipes(SAME_BETA):
        ends = [
            bounds.stationary_policy(log_d, reward, *trainer_recipes(beta)[name]).log_p
            for beta in [*betas, SAME_BETA]
        ]
        points = [loss_and_reward(end) for end in ends]
        numbers[name] = [list(x) for x in zip(*points[:-1], strict=True)]
        numbers[f"{name}, at the same beta"] = points[-1]
    taus = np.geomspace(0.02, 60, 61)
    path = [loss_and_reward(bounds.leashless_policy(log_d, reward, tau)) for tau in taus]
    numbers["no leash, policy gradient"] = [list(x) for x in zip(*path, strict=True)]
    return numbers


def draw_trainers(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    axes = figure.subplots()
    rewards, losses = (np.array(x) for x in numbers["frontier"])
    axes.fill_between(
        np.append(0.0, rewards), np.append(losses[0], losses), 0, color="#eeeeee", lw=0
    )
    axes.plot(rewards, losses, color="black", lw=4, alpha=0.25, label="least of any policy (S5)")
    names = [*trainer_recipes(SAME_BETA), "no leash, policy gradient"]
    for name, style in zip(names, LINES, strict=True):
        axes.plot(*numbers[name], lw=1.8, label=name, **style)
        if f"{name}, at the same beta" in numbers:
            axes.plot(*numbers[f"{name}, at the same beta"], "o", color=style["color"], ms=5)
    axes.set(xlim=(0.7, 3.0), ylim=(0.8, 4.2))
    axes.set_xlabel("expected reward J(p)")
    axes.set_ylabel("SFT loss CE(d, p), nats per response")
    axes.legend(loc="upper left", frameon=False, title=f"where it ends; dots: beta = {SAME_BETA}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


# --- schedules (Schedules that pay less) -------------------------------------------------------

SPEED = 1.2  # nu: RL time per share of SFT
WORLD = (0.5, 0.3, 0.2), (0.0, 1.0, 3.0)
STOPS = {"sft": "after SFT", "rl": "after RL", "half-rl": "after half of an RL phase"}


def schedule_numbers() -> Numbers:
    """Overpaid shares of alternation against how fine it is; ends of other schedules."""
    log_d, reward = np.log(WORLD[0]), np.array(WORLD[1])

    def overpaid(log_p: np.ndarray) -> float:
        over = float(bounds.overpayment(log_d, log_p, reward))
        return over / (float(bounds.kl_divergence(log_d, log_p)) - over)

    def place(log_p: np.ndarray) -> list[float]:
        cost = bounds.kl_divergence(log_d, log_p)
        return [float(bounds.expected_reward(log_p, reward)), float(cost)]

    def curve(laws: list[np.ndarray]) -> list[list[float]]:
        return [list(x) for x in zip(*map(place, laws), strict=True)]

    shares = np.geomspace(0.02, 0.95, 41)
    numbers: Numbers = {"shares": shares.tolist()}
    for stop in STOPS:
        ends = [bounds.alternation_limit(log_d, reward, SPEED * eta, eta, stop) for eta in shares]
        numbers[f"overpaid {STOPS[stop]}"] = [overpaid(end) for end in ends]
    limit = bounds.alternation_limit(log_d, reward, SPEED * 1e-3, 1e-3, "half-rl")
    target = float(bounds.expected_reward(limit, reward))
    numbers["overpaid by the tilt"] = [overpaid(tilt_with_reward(log_d, reward, target))]
    loss, reached = bounds.pareto_frontier(log_d, reward, points=61)
    numbers["frontier"] = [reached.tolist(), (loss - loss[0]).tolist()]
    tilts = [bounds.gibbs_tilt(log_d, reward, beta) for beta in np.geomspace(0.5, 60, 41)]
    numbers["tilts"] = curve(tilts)
    numbers["best of n"] = curve([bounds.best_of_n_policy(log_d, reward, n) for n in range(1, 13)])
    run = bounds.gibbs_tilt(log_d, reward, 0.5)
    replayed = [np.log((1 - v) * np.exp(log_d) + v * np.exp(run)) for v in np.linspace(0, 1, 41)]
    numbers["replay"] = curve(replayed)
    weighted = [
        log_d + np.log(bounds.frontier_weights(log_d, reward, b)) for b in (0.3, 0.6, 1.2, 3)
    ]
    numbers["weighted SFT"] = curve(weighted)
    return numbers


def tilt_with_reward(log_d: np.ndarray, reward: np.ndarray, target: float) -> np.ndarray:
    low, high = 1e-2, 1e2
    for _ in range(80):
        beta = (low * high) ** 0.5
        tilt = bounds.gibbs_tilt(log_d, reward, beta)
        low, high = (beta, high) if bounds.expected_reward(tilt, reward) > target else (low, beta)
    return tilt


def draw_schedules(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    fine, ends = figure.subplots(1, 2)
    for stop, style in zip(STOPS.values(), LINES, strict=False):
        fine.loglog(numbers["shares"], numbers[f"overpaid {stop}"], lw=1.8, label=stop, **style)
    fine.axhline(*numbers["overpaid by the tilt"], color=GREY, lw=1, label="RL alone, same reward")
    fine.set_xlabel("share of SFT in a cycle, eta (left: finer)")
    fine.set_ylabel("paid over the price of the reward, as a share")
    fine.legend(frameon=False, loc="lower right")
    ends.plot(
        *numbers["frontier"], color="black", lw=4, alpha=0.25, label="least of any policy (S5)"
    )
    ends.plot(*numbers["tilts"], lw=1.8, label="RL alone, exact optima", **LINES[1])
    ends.plot(*numbers["replay"], lw=1.8, label="replay: mixtures of d and one tilt", **LINES[2])
    ends.plot(*numbers["best of n"], "s", color="#cc79a7", ms=5, label="SFT on the best of n")
    ends.plot(*numbers["weighted SFT"], "D", color="#0072b2", ms=5, label="SFT, frontier weights")
    ends.set(xlim=(0.85, 3.0), ylim=(-0.05, 3.2))
    ends.set_xlabel("expected reward J(p)")
    ends.set_ylabel("rise of the SFT loss, nats per response")
    ends.legend(frameon=False, loc="upper left")
    for axes in (fine, ends):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# --- where SFT raises the raw reward (What is refuted) ----------------------------------------

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
REF, LEVELS, LEASH = (0.5, 0.3, 0.2), (0.0, 1.0, 3.0), 2.0


def simplex_numbers() -> Numbers:
    """Reference, tilt, the line J(p) = J(tilt), and the ball KL(p||ref) <= KL(tilt||ref)."""
    log_ref, reward = np.log(REF), np.array(LEVELS)
    tilt = bounds.gibbs_tilt(log_ref, reward, LEASH)
    kept = float(bounds.expected_reward(tilt, reward))
    radius = float(bounds.kl_divergence(tilt, log_ref))
    # The level line meets the sides from the worst response to the best, and from the middle one.
    (low, middle, high), share = LEVELS, kept
    ends = []
    for start, level in ((0, low), (1, middle)):
        on_top = (share - level) / (high - level)
        ends.append([on_top if k == 2 else (1 - on_top if k == start else 0.0) for k in range(3)])
    return {
        "ref": list(REF),
        "tilt": np.exp(tilt).tolist(),
        "line": ends,
        "ball": [boundary(log_ref, radius, angle) for angle in np.linspace(0, 2 * np.pi, 121)],
        "reward kept": [kept],
        "radius": [radius],
    }


def boundary(log_ref: np.ndarray, radius: float, angle: float) -> list[float]:
    """The law at distance ``radius`` from the reference in one direction, clipped to the simplex."""
    ref = np.exp(log_ref)
    step = np.array([np.cos(angle), np.cos(angle - 2 * np.pi / 3), np.cos(angle + 2 * np.pi / 3)])
    step -= step.mean()
    low, high = 0.0, float(np.min(ref[step < 0] / -step[step < 0])) * (1 - 1e-12)
    for _ in range(60):
        middle = 0.5 * (low + high)
        with np.errstate(divide="ignore"):
            inside = bounds.kl_divergence(np.log(ref + middle * step), log_ref) < radius
        low, high = (middle, high) if inside else (low, middle)
    return (ref + low * step).tolist()


def draw_simplex(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()

    def at(*laws):
        return (np.array(laws) @ CORNERS).T

    line = numbers["line"]
    rises = at(*line, [0, 0, 1])
    falls = at(line[0], line[1], [0, 1, 0], [1, 0, 0])
    axes.fill(*falls, color="#e8eaf6", lw=0)
    axes.fill(*rises, color="#fde3cf", lw=0)
    axes.fill(*at(*numbers["ball"]), color="#c5cae9", ec=BLUE, lw=1.5)
    axes.plot(*at(*line), color=ORANGE, lw=2)
    axes.plot(*at([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]), color="black", lw=1)
    axes.plot(*at(numbers["ref"]), "o", color="black")
    axes.plot(*at(numbers["tilt"]), "D", color=ORANGE)
    (x,), (y,) = at(numbers["ref"])
    axes.text(x - 0.02, y - 0.05, "ref", ha="right")
    (x,), (y,) = at(numbers["tilt"])
    axes.text(x + 0.03, y + 0.02, "tilt")
    for corner, level, (dx, dy), side in zip(
        CORNERS, LEVELS, [(-0.02, -0.06), (0.02, -0.06), (0, 0.03)], ["left", "right", "center"],
        strict=True,
    ):  # fmt: skip
        axes.text(*(corner + [dx, dy]), f"all mass on r = {level:g}", ha=side)
    axes.text(0.5, 0.68, "SFT raises\nthe reward", ha="center", color=ORANGE)
    axes.text(0.8, 0.07, "SFT lowers\nthe reward", ha="center", color=BLUE)
    axes.text(0.345, 0.3, "KL ball\n(R3)", ha="center", color=BLUE)
    (_, x1), (_, y1) = at(*line)
    axes.text(x1 + 0.03, y1, "J(p) = J(tilt)", color=ORANGE)
    axes.set_aspect("equal")
    axes.set(xlim=(-0.05, 1.1), ylim=(-0.1, 0.95))
    axes.axis("off")
    return figure


# --- what rests on what (The theory) ----------------------------------------------------------

FAMILY = {"F": "#616161", "I": "#616161", "S": BLUE, "R": ORANGE, "P": GREEN, "D": "#7b1fa2"}
FAMILY["J"] = FAMILY["D"]
FAMILY |= {"T": "#00838f", "V": "#ad1457", "G": "#ad1457"}


def dependency_numbers() -> Numbers:
    """Place of each statement: one row above the highest of those it rests on."""
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


def draw_dependencies(numbers: Numbers) -> Figure:
    figure = Figure(figsize=(7.6, 5.6), layout="constrained")
    axes = figure.subplots()
    for x, y, below in numbers.values():
        for other in below:
            x0, y0, _ = numbers[other]
            axes.annotate(
                "", (x0, y0), (x, y),
                arrowprops=dict(arrowstyle="-", color="#b0b0b0", lw=1, shrinkA=9, shrinkB=9),
            )  # fmt: skip
    for id_, (x, y, _) in numbers.items():
        box = dict(boxstyle="round,pad=0.3", fc="white", ec=FAMILY[id_[0]], lw=1.5)
        axes.text(x, y, id_, ha="center", va="center", bbox=box, color=FAMILY[id_[0]], size=9)
    axes.set(xlim=(-0.5, 32.5), ylim=(-0.5, max(y for _, y, _ in numbers.values()) + 0.5))
    axes.axis("off")
    return figure


# --- writing ----------------------------------------------------------------------------------

FIGURES: dict[str, tuple[Callable[[], Numbers], Callable[[Numbers], Figure]]] = {
    "frontier": (frontier_numbers, draw_frontier),
    "trainers": (trainer_numbers, draw_trainers),
    "schedules": (schedule_numbers, draw_schedules),
    "simplex": (simplex_numbers, draw_simplex),
    "dependencies": (dependency_numbers, draw_dependencies),
}


def write(name: str, path: Path) -> None:
    numbers, draw = FIGURES[name]
    found = numbers()
    settings = {"svg.hashsalt": name, "svg.fonttype": "path", "font.size": 10}
    with mpl.rc_context(settings):
        note = json.dumps(found, separators=(",", ":"))
        metadata = {"Date": None, "Creator": f"matplotlib {mpl.__version__}", "Description": note}
        draw(found).savefig(path, format="svg", metadata=metadata)
    path.write_text(re.sub(r"[ \t]+$", "", path.read_text(), flags=re.MULTILINE))


def written_numbers(path: Path) -> Numbers:
    """The numbers that a figure was drawn from, as it carries them."""
    match = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(), re.DOTALL)
    assert match, f"{path.name} carries no numbers"
    return json.loads(match[1].replace("&quot;", '"'))


if __name__ == "__main__":
    for figure_name in FIGURES:
        write(figure_name, HERE / f"{figure_name}.svg")
