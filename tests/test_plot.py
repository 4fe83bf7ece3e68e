"""``nondecoupling.plot``: it draws what ``bounds`` computes, the reward across and the SFT loss upwards."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe

pytest.importorskip("matplotlib", reason="plots need it: pip install nondecoupling[plot]")
from nondecoupling import plot
from nondecoupling.plot.simplices import CORNERS, boundary

ROOT = Path(__file__).parents[1]
D, REF, R = np.log([0.5, 0.4, 0.1]), np.log([0.3, 0.3, 0.4]), np.array([0.0, 2.0, 3.0])
TWO_D, TWO_R = np.stack([D, REF]), np.stack([R, [1.0, 0.0, 1.0]])


@pytest.fixture
def ax():
    _, axes = plot.subplots(size=(4.0, 3.0))
    return axes


def test_the_reward_goes_across_and_the_loss_upwards(ax):
    for law in (D, np.log([0.1, 0.2, 0.7])):
        plot.policies(D, law, R, ax=ax)
        (x, y) = ax.lines[-1].get_xydata()[0]
        assert x == pytest.approx(np.exp(law) @ R)
        assert y == pytest.approx(-np.exp(D) @ law)
    assert "reward" in ax.get_xlabel()
    assert "SFT loss" in ax.get_ylabel()


def test_no_policy_lies_below_the_frontier_and_one_that_is_on_it_touches_it(ax):
    plot.frontier(D, R, ax=ax)
    reached, least = ax.lines[0].get_data()
    laws = np.log(np.random.default_rng(0).dirichlet(np.ones(3), 200))
    rewards, losses = bounds.expected_reward(laws, R), bounds.cross_entropy(D, laws)
    inside = (rewards > reached[0]) & (rewards < reached[-1])
    assert inside.sum() > 50
    # The curve is convex, so the chord between its points is above it: by less than this here.
    assert np.all(losses[inside] >= np.interp(rewards[inside], reached, least) - 1e-3)
    best = bounds.frontier_policy(D, R, 0.5).log_p
    on_it = np.interp(float(bounds.expected_reward(best, R)), reached, least)
    assert float(bounds.cross_entropy(D, best)) == pytest.approx(on_it, abs=1e-3)


def test_losses_above_the_floor_begin_at_zero_and_do_not_mix_with_losses(ax):
    plot.frontier(D, R, ax=ax, above_floor=True)
    assert ax.lines[0].get_ydata()[0] == 0
    plot.policies(D, REF, R, ax=ax, above_floor=True)
    assert ax.lines[1].get_ydata()[0] == pytest.approx(float(bounds.kl_divergence(D, REF)))
    with pytest.raises(ValueError, match="above_floor=False: the axes show 'SFT loss above"):
        plot.tilt_path(D, R, ax=ax)


def test_prompts_are_averaged_as_their_weights_say(ax):
    weights = np.array([3.0, 1.0])
    plot.policies(TWO_D, TWO_D, TWO_R, ax=ax, weights=weights)
    plot.frontier(TWO_D, TWO_R, ax=ax, weights=weights)
    share = weights / 4
    expected = share @ bounds.expected_reward(TWO_D, TWO_R), share @ bounds.entropy(TWO_D)
    for shown in (ax.lines[0].get_xydata()[0], ax.lines[1].get_xydata()[0]):
        assert shown.tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="weights"):
        plot.policies(TWO_D, TWO_D, TWO_R, ax=ax, weights=[1.0, -1.0])


def test_padding_does_not_move_the_frontier(ax):
    padded = np.append(D, -np.inf), np.append(R, 99.0)
    plot.frontier(D, R, ax=ax)
    plot.frontier(*padded, ax=ax, mask=[True, True, True, False])
    plot.frontier(*padded, ax=ax)
    plain, masked, wrong = (line.get_xydata() for line in ax.lines)
    assert np.allclose(plain, masked)
    assert not np.allclose(plain, wrong)


def test_padding_does_not_move_paths_and_recipes(ax):
    """Their betas go by the rewards that ref can give: no mask is needed."""
    padded = np.append(D, -np.inf), np.append(R, 1e9)
    named = {"mine": Recipe("leave-one-out", "k3-in-loss", 0.6)}
    for world in ((D, R), padded):
        plot.tilt_path(*world, ax=ax)
        plot.recipes(*world, named, ax=ax)
    curves = [line.get_xydata() for line in ax.lines]
    for plain, same in zip(curves[:3], curves[3:], strict=True):
        np.testing.assert_allclose(same, plain, rtol=1e-9)
    assert len(curves[0]) > 20 and len(curves[1]) > 20


def test_the_tilt_path_starts_at_ref_and_marks_a_beta(ax):
    plot.tilt_path(D, R, log_ref=REF, beta=0.7, ax=ax)
    path, mark = (line.get_xydata() for line in ax.lines)
    assert path[0].tolist() == pytest.approx([np.exp(REF) @ R, -np.exp(D) @ REF])
    assert np.all(np.diff(path[:, 0]) > 0)
    tilt = bounds.gibbs_tilt(REF, R, 0.7)
    assert mark[0].tolist() == pytest.approx([np.exp(tilt) @ R, -np.exp(D) @ tilt])
    whole = float(R.max() - np.exp(REF) @ R)
    assert 0.9 * whole < path[-1, 0] - path[0, 0] <= 0.98 * whole


def test_given_betas_are_all_drawn_in_falling_order(ax):
    plot.tilt_path(D, R, betas=[0.01, 1.0, 0.1], ax=ax)
    tilts = [D, *(bounds.gibbs_tilt(D, R, beta) for beta in (1.0, 0.1, 0.01))]
    shown = ax.lines[0].get_xdata()
    assert shown.tolist() == pytest.approx([float(np.exp(p) @ R) for p in tilts])


def test_recipes_end_where_bounds_says(ax):
    recipe, tree = Recipe("leave-one-out", "k3-in-loss", 0.6), TokenTree(((0,), (1, 0), (1, 1)))
    plot.recipes(D, R, {"per response": recipe, "per token": (recipe, tree)}, ax=ax)
    marks = [line.get_xydata()[0] for line in ax.lines[1::2]]
    for mark, grown in zip(marks, (None, tree), strict=True):
        end = bounds.stationary_policy(D, R, recipe, grown).log_p
        assert mark.tolist() == pytest.approx([np.exp(end) @ R, -np.exp(D) @ end])
    assert not np.allclose(*marks)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "per response",
        "per token",
    ]


def test_a_recipe_that_ends_nowhere_is_refused_by_its_name(ax):
    with pytest.raises(ValueError, match=r"named\['mine'\]: no stationary policy.*leave it out"):
        plot.recipes(D, R, {"mine": Recipe("leave-one-out", "k3-in-reward", 0.1)}, ax=ax)


def test_curves_differ_in_colour_and_in_line_style():
    looks = [plot.line(place) for place in range(42)]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == 42
    for name in ("color", "linestyle"):
        assert all(a[name] != b[name] for a, b in itertools.pairwise(looks))


def test_each_curve_takes_the_next_style_and_one_given_by_a_short_name_wins(ax):
    path = np.stack([D, REF])
    for _ in range(3):
        plot.policies(D, path, R, ax=ax)
    plot.policies(D, path, R, ax=ax, lw=7, c="red", ls=":")
    assert [x.get_color() for x in ax.lines[:3]] == [plot.line(k)["color"] for k in range(3)]
    last = ax.lines[3]
    assert (last.get_linewidth(), last.get_color(), last.get_linestyle()) == (7, "red", ":")


def test_tensors_are_drawn_too(ax):
    torch = pytest.importorskip("torch")
    law = torch.tensor(D, requires_grad=True)
    plot.frontier(law, torch.tensor(R), ax=ax)
    plot.frontier(D, R, ax=ax)
    ours, numpy = (line.get_xydata() for line in ax.lines)
    assert np.array_equal(ours, numpy)


def test_the_same_figure_is_the_same_svg_and_well_formed():
    def drawn(beta: float) -> str:
        with plot.in_style():
            figure, axes = plot.subplots(size=(4.0, 3.0))
            plot.tilt_path(D, R, beta=beta, ax=axes)
            return plot.svg(figure, note="1 < 2")

    assert drawn(1.0) == drawn(1.0)
    assert drawn(1.0) != drawn(2.0)
    assert ElementTree.fromstring(drawn(1.0)).tag.endswith("svg")


@pytest.mark.slow  # a process
def test_without_axes_pyplot_shows_new_ones():
    code = (
        "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as plt, numpy as np\n"
        "from nondecoupling import plot\n"
        "ax = plot.frontier(np.log([0.5, 0.5]), np.array([0.0, 1.0]))\n"
        "print(plt.gcf() is ax.figure)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "True\n"


def test_missing_matplotlib_gives_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'nondecoupling\[plot\]'"):
        plot.frontier(D, R)


# --- the triangle ------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [R, np.array([5.0, 0, 0])])
def test_the_level_line_has_the_reward_of_the_tilt_and_the_regions_lie_on_its_sides(ax, reward):
    plot.simplex(REF, reward, 2.0, ax=ax)
    tilt = np.exp(bounds.gibbs_tilt(REF, reward, 2.0))
    to_law = np.linalg.inv(np.vstack([CORNERS.T, np.ones(3)]))

    def laws(xy: np.ndarray) -> np.ndarray:
        return (to_law @ np.vstack([xy.T, np.ones(len(xy))])).T

    level = laws(ax.lines[0].get_xydata())
    assert (level @ reward).tolist() == pytest.approx([tilt @ reward] * 2)
    rises, falls, ball = (laws(patch.get_xy()) for patch in ax.patches)
    assert np.all(rises @ reward >= tilt @ reward - 1e-9)
    assert np.all(falls @ reward <= tilt @ reward + 1e-9)
    assert np.all(ball @ reward <= tilt @ reward + 1e-9)  # R3, which the level line touches


def test_the_ball_ends_where_the_divergence_says():
    angles = np.array([0.0, 1.0, 4.0])
    at = boundary(REF, 0.1, angles)
    refs = np.broadcast_to(REF, at.shape)
    assert bounds.kl_divergence(np.log(at), refs).tolist() == pytest.approx([0.1] * 3)
    assert boundary(REF, 50.0, angles).min(axis=1).tolist() == pytest.approx([0] * 3, abs=1e-9)


@pytest.mark.parametrize(
    ("log_ref", "reward", "beta", "words"),
    [
        (np.log([0.5, 0.5]), R, 1.0, r"log_ref \(2,\).*three responses"),
        (np.append(D[:2], -np.inf), R, 1.0, "full support"),
        (REF, np.ones(3), 1.0, "constant"),
        (REF, R, 1e-9, "larger beta"),
    ],
)
def test_worlds_without_such_a_triangle_are_refused(ax, log_ref, reward, beta, words):
    with pytest.raises(ValueError, match=words):
        plot.simplex(log_ref, reward, beta, ax=ax)


# --- one plotting code -------------------------------------------------------------------------

DRAWS_ITSELF = re.compile(r"pyplot|rc_context|rcParams|savefig|#[0-9a-f]{6}")


def drawing_files(root: Path) -> list[str]:
    """Python files outside the plotting code that have settings, files or colours of figures of their own."""
    found = [
        path
        for folder in ("nondecoupling", "experiments")
        for path in (root / folder).rglob("*.py")
    ]
    return sorted(
        path.relative_to(root).as_posix()
        for path in found
        if "plot" not in path.relative_to(root).parts and DRAWS_ITSELF.search(path.read_text())
    )


def test_there_is_one_plotting_code(tmp_path):
    # The command writes what its user names, in any format; reports shade the stages of a run.
    assert drawing_files(ROOT) == [
        "experiments/validate/enumerated/plots.py",
        "nondecoupling/cli/frontier.py",
    ]
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/own.py").write_text("import matplotlib.pyplot as plt\n")
    assert drawing_files(tmp_path) == ["experiments/own.py"]
