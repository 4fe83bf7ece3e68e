"""Threshold, duration, joint training, against ``bounds`` on a law that the samples show exactly; tables and pages."""

from __future__ import annotations

import builtins
import json
import math

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.forecast import AtBeta, Forecast, Samples, UnsupportedBeta, forecast
from nondecoupling.recipes import Recipe
from tests.command_line import invoke

GRADES, LOG_REF = np.array([0.0, 0.5, 1.0]), np.log([0.5, 0.25, 0.25])
ROWS = np.tile([0.0, 0.0, 0.5, 1.0] * 8, (100, 1))
UNIT = (0.0, 1.0)


def samples(experts: list[float] | None = None) -> Samples:
    rows = None if experts is None else np.tile(experts, (100, 1))
    return Samples(ROWS, reward_bounds=UNIT, expert_rewards=rows)


PLAN = forecast(samples(), betas=[0.5], targets=[0.6])
UNSEEN = forecast(Samples([[0] * 7 + [1]] * 40, reward_bounds=UNIT))


@pytest.mark.parametrize(("experts", "lowers"), [([1.0, 1.0], True), ([0.0, 0.5], False)])
def test_rl_lowers_the_loss_on_experts_above_the_soft_value(experts, lowers):
    found = forecast(samples(experts)).threshold(0.5)
    soft = 0.5 * float(bounds.log_partition(LOG_REF, GRADES, 0.5))
    assert found.expert_reward_needed.value == pytest.approx(soft)
    assert found.expert_reward_margin.value == pytest.approx(np.mean(experts) - soft)
    assert found.lowers is lowers
    pinsker, exact = bounds.decoupling_threshold(LOG_REF, GRADES, 0.5)
    assert found.pinsker_radius.value == pytest.approx(float(pinsker))
    assert found.radius.value == pytest.approx(float(exact))
    assert found.pinsker_radius.low <= pinsker <= exact <= found.radius.high


def test_experts_at_the_threshold_decide_nothing():
    at = 0.5 * float(bounds.log_partition(LOG_REF, GRADES, 0.5))
    assert forecast(samples([at])).threshold(0.5).lowers is None
    assert PLAN.threshold(0.5).expert_reward_margin is None
    assert PLAN.threshold(0.5).lowers is None


@pytest.mark.parametrize("weight", [0.3, 0.6, 2.0])
def test_the_duration_that_is_worth_most(weight):
    found = PLAN.duration(weight)
    duration, _, _ = bounds.optimal_rl_duration(LOG_REF, GRADES, weight)
    assert 1 / found.beta == pytest.approx(float(duration), rel=1e-3)
    tilt = bounds.gibbs_tilt(LOG_REF, GRADES, found.beta)
    worth = bounds.expected_reward(tilt, GRADES) - weight * bounds.kl_divergence(LOG_REF, tilt)
    assert found.worth.value == pytest.approx(float(worth))
    assert found.worth.low <= worth <= found.worth.high
    assert found.least_beta < found.beta and isinstance(found.at_beta, AtBeta)


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("weight", [9.7, 12.0, 50.0, 3e3])
def test_a_high_price_of_loss_asks_for_weak_rl_beyond_the_grid(weight, scale):
    """Up to where the worth of RL is lost in the digits of the reward, against P5 at each prompt's law."""
    plan = forecast(Samples(scale * ROWS, reward_bounds=(0, scale)))
    found = plan.duration(scale * weight)
    duration, _, _ = bounds.optimal_rl_duration(LOG_REF, scale * GRADES, scale * weight)
    assert 1 / found.beta == pytest.approx(float(duration), rel=1e-2 / weight)
    assert isinstance(found.at_beta, AtBeta) and found.at_beta.beta == found.beta
    assert found.worth.value > plan.samples.mean_reward


def test_a_price_of_loss_near_the_end_of_the_grid_is_met_inside_it():
    found = PLAN.duration(9.0)
    duration, _, _ = bounds.optimal_rl_duration(LOG_REF, GRADES, 9.0)
    assert 1 / found.beta == pytest.approx(float(duration), rel=1e-3)


@pytest.mark.parametrize("weight", [1e9, 1e300])
def test_a_price_of_loss_that_no_float_tells_from_infinite(weight):
    assert PLAN.duration(weight).beta == pytest.approx(weight, rel=1e-8)


def test_joint_training():
    for weight, found in zip((0.1, 1.0), PLAN.joint([0.1, 1.0]), strict=True):
        optimum = bounds.joint_optimum(LOG_REF, LOG_REF, GRADES, 0.5, weight)
        tilt = bounds.gibbs_tilt(LOG_REF, GRADES, 0.5)
        reward, loss = (
            bounds.expected_reward(optimum, GRADES),
            bounds.kl_divergence(LOG_REF, optimum),
        )
        assert found.reward.value == pytest.approx(float(reward))
        assert found.own_loss_change.value == pytest.approx(float(loss))
        saved = bounds.kl_divergence(LOG_REF, tilt) - loss
        lost = bounds.expected_reward(tilt, GRADES) - reward
        assert found.saved.value == pytest.approx(float(saved)) and saved > 0
        assert found.reward_lost.value == pytest.approx(float(lost)) and lost > 0
        for number in (found.reward, found.own_loss_change, found.saved):
            assert number.low <= number.value <= number.high


def test_what_is_not_supported_says_how_many_responses_would_do():
    for answer in (UNSEEN.threshold(0.01), *UNSEEN.joint([1.0], beta=0.01)):
        assert isinstance(answer, UnsupportedBeta)
        assert answer.responses_needed > 8 and "draw at least" in str(answer)
    hopeless = np.zeros((40, 8))
    hopeless[0, 0] = 1
    assert isinstance(
        forecast(Samples(hopeless, reward_bounds=UNIT)).duration(1.0), UnsupportedBeta
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PLAN.duration(0), "weight=0: must be one positive"),
        (lambda: PLAN.joint([1, -1]), "weights=-1.0: must be one positive"),
        (lambda: UNSEEN.joint([1]), "beta=None: give one, or betas to forecast"),
        (lambda: PLAN.threshold(-1), "beta=-1: must be one positive"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("answer", [PLAN.threshold(0.5), PLAN.duration(0.5), *PLAN.joint([1.0])])
def test_answers_are_ready_for_json_and_say_what_they_are_about(answer):
    read = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert read["about"] == "exact RL by the reverse leash, beta KL(p||ref), whatever the recipe"


# --- tables, pictures, pages ---------------------------------------------------------------------


def test_a_table_has_one_row_for_each_number():
    table = PLAN.to_pandas()
    answer = PLAN.at_beta(0.5)
    row = table[(table["where"] == 0.5) & (table.number == "own_loss_change")].iloc[0]
    assert (row.value, row.low, row.high) == (
        answer.own_loss_change.value, answer.own_loss_change.low, answer.own_loss_change.high,
    )  # fmt: skip
    assert set(table[table["at"] == "reward"].number) == {"price", "trained_price", "beta"}
    (refused,) = forecast(UNSEEN.samples, betas=[0.01]).to_pandas().itertuples()
    assert math.isnan(refused.value) and "is not supported" in refused.how


def test_without_pandas_the_remedy_is_named(monkeypatch):
    def without(name, *arguments, **more):
        if name.startswith("pandas"):
            raise ImportError(name)
        return imported(name, *arguments, **more)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install pandas, or use to_dict\(\)"):
        PLAN.to_pandas()


@pytest.fixture(scope="module")
def trained():
    recipe = Recipe("group-mean", "k2-in-loss", beta=0.3, group_size=4)
    return forecast(samples([0.5, 1.0]), recipe=recipe, targets=[0.6])


def test_the_picture_shows_floor_paths_start_and_run(trained):
    from nondecoupling.plot import subplots

    _, axes = subplots(size=(6, 4))
    assert trained.plot(axes, run=[(0.5, 0.1), (0.6, 0.3)]) is axes
    lines = {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}
    assert {"exact RL", "the recipe", "start policy", "the run"} <= set(lines)
    floor = lines["floor of any algorithm, all of it at level 0.95"]
    rl, recipe = lines["exact RL"], lines["the recipe"]
    np.testing.assert_allclose(lines["start policy"], [[0.375, 0.0]])
    np.testing.assert_allclose(lines["the run"], [(0.5, 0.1), (0.6, 0.3)])
    assert np.all(np.interp(rl[:, 0], *floor.T) <= rl[:, 1] + 1e-9)
    np.testing.assert_allclose(np.interp(rl[5:-1, 0], *recipe.T), rl[5:-1, 1], atol=0.05)
    answer = trained.at_beta()
    dots = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[answer.reward.value, answer.own_loss_change.value]]


def test_prices_near_the_most_that_rl_reaches_stay_off_the_picture():
    """Half of the prompts have no success: RL to 0.49 of the 0.5 there is would cost tens of nats."""
    from nondecoupling.plot import subplots

    rewards = np.zeros((64, 32))
    rewards[::2, ::4] = 1.0
    _, axes = subplots(size=(6, 4))
    forecast(Samples(rewards, reward_bounds=(0, 1))).plot(axes)
    (path,) = (line.get_xydata() for line in axes.lines if line.get_label() == "exact RL")
    start, most = 0.125, 0.5
    assert 0.3 < path[:, 0].max() <= start + 0.9 * (most - start)
    assert path[:, 1].max() < 3


def test_the_page_is_self_contained_and_leads_with_the_picture(trained):
    page = trained.html(trained.recommend(loss_budget=0.1))
    assert page.index("<svg") < page.index("Recommended for") < page.index("At beta = 0.3")
    for words in ("guaranteed", "cheapest recipe", "Forgetting on other prompts", "group-mean"):
        assert words in page
    assert "<meta name='viewport' content='width=device-width" in page
    for loaded in ("src=", "<script", "@import", 'href="http', "url(http"):
        assert loaded not in page


def test_the_command_takes_a_recipe_and_writes_the_page(tmp_path):
    file, recipe, page = (tmp_path / name for name in ("ref.jsonl", "trl.json", "out.html"))
    rows = [
        {"prompt": f"p{i}", "reward": (row > 0).tolist(), "w": 1 + i % 2}
        for i, row in enumerate(ROWS[:80])
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    fields = {"advantage": "group-mean", "leash": "k2-in-loss", "beta": 0.3, "group_size": 4}
    recipe.write_text(json.dumps(fields))
    options = [
        str(file),
        "--reward-low",
        "0",
        "--reward-high",
        "1",
        "--weight",
        "w",
        "--loss-budget",
        "0.2",
    ]
    told = [*options, "--recipe", str(recipe), "--html", str(page), "--run", "0.6,0.1"]
    result = invoke("forecast", *told, "--json")
    assert result.exit_code == 0, result.output
    assert "<svg" in page.read_text() and "weighted" in page.read_text()
    reply = json.loads(result.stdout)
    assert {name: reply["recipe"][name] for name in fields} == fields
    assert reply["recommendation"]["cheapest_recipe"]["leash"] == "k3-in-loss"


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ('{"beta": -1}', [], "--recipe"),
        ("{", [], "cannot be parsed"),
        ('{"advantage": "best"}', [], "missing"),
        ("{}", ["--trainer", "ppo"], "--trainer ppo: grpo or rloo"),
        ("{}", ["--run", "0.5"], "--run '0.5': give a reward and a change of SFT loss"),
        (None, [], "cannot be read"),
    ],
)
def test_the_command_names_what_is_wrong_with_a_recipe(tmp_path, text, change, message):
    file, recipe = tmp_path / "ref.jsonl", tmp_path / "recipe.json"
    rows = [{"prompt": f"p{i}", "reward": [0, 1]} for i in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    if text is not None:
        recipe.write_text(text)
    options = ["--reward-low", "0", "--reward-high", "1", "--recipe", str(recipe)]
    page = ["--html", str(tmp_path / "out.html")]
    result = invoke("forecast", str(file), *options, *page, *change)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_page_that_fails_takes_no_results_with_it(tmp_path, as_json, monkeypatch):
    file = tmp_path / "ref.jsonl"
    rows = [{"prompt": f"p{i}", "reward": [0, 1]} for i in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))

    def no_matplotlib(*given, **options):
        raise ImportError("no matplotlib")

    monkeypatch.setattr(Forecast, "html", no_matplotlib)
    command = ["forecast", str(file), "--reward-low", "0", "--reward-high", "1", "--html", "x.html"]
    shown = invoke(*command, *as_json)
    assert shown.exit_code == 2 and "no matplotlib" in shown.stderr
    assert "20 prompts" in shown.stdout or json.loads(shown.stdout)
