"""What a forecast answers on samples that can be read off, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.forecast import AtBeta, Estimate, Forecast, Samples, UnsupportedBeta, forecast
from nondecoupling.forecast.floors import plug_in_price, price_floor
from tests.command_line import invoke

# Every prompt shows the law of the start policy exactly: a half, a quarter, a quarter.
GRADES, LOG_REF = np.array([0.0, 0.5, 1.0]), np.log([0.5, 0.25, 0.25])
ROWS = np.tile([0.0, 0.0, 0.5, 1.0] * 8, (600, 1))
EXPERTS = np.tile([0.5, 1.0], (600, 1))
SAMPLES = Samples(ROWS, reward_bounds=(0, 1), expert_rewards=EXPERTS)


@pytest.fixture(scope="module")
def plan() -> Forecast:
    return forecast(SAMPLES, betas=[1.0, 0.5], targets=[0.6])


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
def test_estimates_at_a_beta_are_those_of_the_sampled_law(plan, beta):
    answer = plan.at_beta(beta)
    tilt = bounds.gibbs_tilt(LOG_REF, GRADES, beta)
    kl, reward = bounds.kl_divergence(tilt, LOG_REF), bounds.expected_reward(tilt, GRADES)
    experts = bounds.sft_loss_increase(np.log([1e-300, 0.5, 0.5]), LOG_REF, GRADES, beta)
    expected = {
        "reward": reward,
        "kl": kl,
        "own_loss_change": bounds.coupling_gap(LOG_REF, GRADES, beta),
        "expert_loss_change": experts,
        "soft_value": reward - beta * kl,
    }
    for name, truth in expected.items():
        estimate = getattr(answer, name)
        assert estimate.value == pytest.approx(float(truth), rel=1e-9)
        assert estimate.low <= truth <= estimate.high
        assert estimate.level == 0.95


def test_the_sign_depends_on_the_data(plan):
    answer = plan.at_beta(1.0)
    assert answer.expert_loss_change.high < 0 < answer.own_loss_change.low


def test_at_a_reward(plan):
    answer = plan.at_reward(0.6)
    assert answer.price.value == pytest.approx(float(bounds.price_of_reward(LOG_REF, GRADES, 0.6)))
    assert 0 < answer.price.low < answer.price.value and answer.price.high == math.inf
    tilt = bounds.gibbs_tilt(LOG_REF, GRADES, answer.beta.value)
    assert float(bounds.expected_reward(tilt, GRADES)) == pytest.approx(0.6)
    assert answer.beta.low < answer.beta.value < answer.beta.high
    gap = float(bounds.coupling_gap(LOG_REF, GRADES, answer.beta.value))
    assert answer.trained_price.value == pytest.approx(gap)
    assert answer.price.value < gap <= answer.trained_price.high


def test_the_reward_of_the_start_policy_is_free(plan):
    answer = plan.at_reward(0.3)
    assert answer.price.value == answer.price.low == answer.trained_price.value == 0
    assert answer.beta.value == answer.beta.high == math.inf


def test_the_price_rises_with_the_reward_up_to_the_edge(plan):
    answers = [plan.at_reward(c) for c in (0.5, 0.9, 0.999)]
    lows = [answer.price.low for answer in answers]
    assert lows == sorted(lows) and lows[-1] > 1


HARD = np.random.default_rng(21)
HARD_ROWS = (HARD.random((80, 8)) < HARD.uniform(0.1, 0.7, (80, 1))).astype(float)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 1.0)])
def test_a_higher_target_has_no_lower_floor(low, high):
    samples = Samples(low + (high - low) * HARD_ROWS, reward_bounds=(low, high))
    shares = [*np.linspace(0.1, 0.9, 6), 1 - 1e-6, 1 - 1e-12]
    targets = [low + (high - low) * share for share in shares]
    floors = [float(price_floor(samples, target, 0.05).low) for target in targets]
    assert floors == sorted(floors)
    assert floors[-2] > floors[-3] + 1 and floors[-1] > floors[-2] + 1  # up to the highest reward
    assert 0 < floors[4] < plug_in_price(samples, targets[4])


@pytest.mark.parametrize("offset", [-(2.0**30), 2.0**30])
def test_an_offset_of_the_rewards_costs_the_floor_nothing(offset):
    near = forecast(Samples(HARD_ROWS, reward_bounds=(0, 1))).at_reward(0.8)
    far = forecast(Samples(HARD_ROWS + offset, reward_bounds=(offset, offset + 1)))
    price = far.at_reward(offset + 0.8125).price
    assert price.low > near.price.low > 0.05 and price.value > near.price.value
    exact = forecast(Samples(HARD_ROWS, reward_bounds=(0, 1))).at_reward(0.8125).price
    assert (price.low, price.value) == pytest.approx((exact.low, exact.value), rel=1e-6)


def test_what_few_responses_do_not_show_is_refused():
    rows = np.zeros((200, 8))
    rows[:60, 0] = 1
    plan = forecast(Samples(rows, reward_bounds=(0, 1)))
    answer = plan.at_beta(1.0)
    assert isinstance(answer, UnsupportedBeta)
    assert answer.prompts_without_spread == pytest.approx(0.7)
    assert "70% of the prompts show one reward only" in str(answer)
    assert answer.responses_needed >= 16
    at_reward = plan.at_reward(0.9)
    assert isinstance(at_reward.beta, UnsupportedBeta)
    assert isinstance(at_reward.trained_price, UnsupportedBeta)
    assert isinstance(at_reward.price, Estimate)  # the floor needs no reweighting


def test_a_rare_success_supports_weak_rl_only():
    rows = np.tile([1.0] + [0.0] * 31, (100, 1))
    plan = forecast(Samples(rows, reward_bounds=(0, 1)))
    assert isinstance(plan.at_beta(2.0), AtBeta)
    strong = plan.at_beta(0.1)
    assert isinstance(strong, UnsupportedBeta)
    assert "too far for 32 responses" in strong.reason and strong.responses_needed > 32


def test_a_reward_that_no_response_has_is_refused():
    rows = np.tile([0.0] * 4 + [1.0] * 12, (100, 1))
    rows[0] = 0
    plan = forecast(Samples(rows, reward_bounds=(0, 1)))
    for answer in (plan.at_reward(0.995).beta, plan.recommend(reward_target=0.995).plug_in):
        assert isinstance(answer, UnsupportedBeta)
        assert "do not have an average reward of 0.995" in str(answer)


@pytest.mark.parametrize("beta", [1e-6, 1e9, 1e200])
def test_extreme_betas(beta):
    rows = np.tile([0.0, 1.0] * 8, (50, 1))
    answer = forecast(Samples(rows, reward_bounds=(0, 1), expert_rewards=rows)).at_beta(beta)
    tiny = beta < 1
    assert answer.reward.low <= (1.0 if tiny else 0.5) <= answer.reward.high
    assert answer.kl.low <= (np.log(2) if tiny else 0.0) <= answer.kl.high
    assert answer.own_loss_change.low <= answer.own_loss_change.value <= answer.own_loss_change.high


def test_a_budget(plan):
    advice = plan.recommend(loss_budget=0.1)
    assert advice.guaranteed.own_loss_change.high <= 0.1
    assert advice.plug_in.own_loss_change.value <= 0.1
    assert advice.plug_in.beta <= advice.guaranteed.beta


def test_a_tiny_budget_is_kept_by_a_bound_that_needs_no_samples(plan):
    beta = plan.recommend(loss_budget=1e-6).guaranteed.beta
    assert beta == pytest.approx(1 / math.sqrt(8e-6))


def test_a_reward(plan):
    advice = plan.recommend(reward_target=0.5)
    assert advice.plug_in.reward.value == pytest.approx(0.5)
    assert advice.guaranteed.beta < advice.plug_in.beta
    assert advice.guaranteed.reward.low > 0.5
    assert plan.recommend(reward_target=1 - 1e-9).guaranteed is None


def test_the_order_of_a_file_says_nothing():
    rng = np.random.default_rng(0)
    rows = (rng.random((300, 16)) < rng.uniform(0.2, 0.8, size=(300, 1))).astype(float)
    by_difficulty = rows[np.argsort(rows.mean(axis=1))]
    sorted_file, mixed = (
        forecast(Samples(r, reward_bounds=(0, 1))).at_beta(1.0) for r in (by_difficulty, rows)
    )
    assert sorted_file.reward.low == pytest.approx(mixed.reward.low, abs=0.02)


@pytest.mark.parametrize("shift_and_scale", [(-1.0, 2.0), (5.0, 100.0)])
def test_the_unit_of_the_reward_does_not_matter(plan, shift_and_scale):
    shift, scale = shift_and_scale
    other = forecast(Samples(shift + scale * ROWS, reward_bounds=(shift, shift + scale)))
    here, there = plan.at_beta(0.8), other.at_beta(0.8 * scale)
    for name in ("kl", "own_loss_change"):
        a, b = getattr(here, name), getattr(there, name)
        assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), rel=1e-6)
    assert there.reward.low == pytest.approx(shift + scale * here.reward.low, rel=1e-6)
    floor = other.at_reward(shift + scale * 0.6).price.low
    assert floor == pytest.approx(plan.at_reward(0.6).price.low, rel=1e-4)


MISUSED = [
    (lambda plan: plan.at_beta(0), "beta=0: must be one positive number"),
    (lambda plan: plan.at_reward(1.0), r"target=1.0: choose a reward inside \(0, 1\)"),
    (lambda plan: plan.at_reward(np.nan), "target=nan"),
    (lambda plan: plan.recommend(), "give one of the two"),
    (lambda plan: plan.recommend(loss_budget=1, reward_target=0.5), "give one of the two"),
    (lambda plan: plan.recommend(loss_budget=-1), "loss_budget=-1: must be one positive"),
    (lambda plan: forecast(plan.samples, delta=1.5), "delta=1.5"),
    (lambda plan: forecast(plan.samples, betas=[1, -1]), "betas=-1.0: must be one positive"),
    (lambda plan: plan.at_beta(1e-9), "beta=1e-09: at least 1e-06"),
    (lambda plan: forecast(plan.samples, targets=[2]), "targets=2.0: choose a reward inside"),
]


@pytest.mark.parametrize(("call", "message"), MISUSED)
def test_misuse_is_named(plan, call, message):
    with pytest.raises(ValueError, match=message):
        call(plan)


def test_saved_and_loaded(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    again = Forecast.load(tmp_path / "plan.json")
    assert again.to_dict() == plan.to_dict()
    answers = json.loads((tmp_path / "plan.json").read_text())["answers"]
    assert answers["at_reward"][0]["price"]["high"] is None


def without(*place):
    def changed(text):
        content = json.loads(text)
        at = content
        for name in place[:-1]:
            at = at[name]
        del at[place[-1]]
        return json.dumps(content)

    return changed


BROKEN = [
    (lambda text: "{}", "not a file that Forecast.save wrote"),
    (lambda text: text[: len(text) // 2], "not JSON .* was it cut off"),
    (lambda text: "", "not JSON .* was it cut off"),
    (without("samples"), "it lacks 'samples'"),
    (without("delta"), "it lacks 'delta'"),
    (without("answers", "recipe"), "it lacks 'recipe'"),
    (without("samples", "reward_bounds"), "reward_bounds.*; save the forecast again"),
    (lambda text: text.replace('"delta": 0.05', '"delta": 5'), "delta=5: must lie strictly"),
    (lambda text: text.replace('"weights"', '"masses"'), "masses.*; save the forecast again"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_a_broken_forecast_is_named(plan, tmp_path, change, message):
    file = tmp_path / "plan.json"
    plan.save(file)
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=f"plan.json: .*{message}"):
        Forecast.load(file)


def test_a_forecast_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json: no such file"):
        Forecast.load(tmp_path / "no.json")
    (tmp_path / "a.parquet").write_bytes(b"PAR1\xff")
    with pytest.raises(ValueError, match=r"a\.parquet is a Parquet file, where JSON is read"):
        Forecast.load(tmp_path / "a.parquet")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    rows = [{"prompt": f"p{i}", "reward": row.tolist()} for i, row in enumerate(ROWS[:100])]
    path = tmp_path / "ref.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def run(*arguments):
    return invoke("forecast", *arguments)


def test_the_command_prints_what_python_says(file):
    options = ["--reward-low", "0", "--reward-high", "1", "--beta", "1", "--target", "0.6"]
    reply = json.loads(run(file, *options, "--loss-budget", "0.1", "--json").stdout)
    here = forecast(Samples.from_jsonl(file, reward_bounds=(0, 1)), betas=[1], targets=[0.6])
    assert {k: v for k, v in reply.items() if k != "recommendation"} == here.to_dict()
    assert reply["recommendation"] == here.recommend(loss_budget=0.1).to_dict()
    shown = run(file, *options, "--reward-target", "0.5")
    assert shown.exit_code == 0
    for words in (
        "RL at beta = 1",
        "least SFT loss change of any algorithm",
        "guaranteed:",
        "The cheapest recipe",
    ):
        assert words in shown.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--reward-high", "0.5"], "outside --reward-low 0.0 --reward-high 0.5"),
        (["--reward-high", "-1"], "--reward-low 0.0 --reward-high -1.0: give finite numbers"),
        (["--beta", "-1"], "Error: --beta -1.0: must be one positive"),
        (["--beta", "nan"], "Error: --beta nan: must be one positive"),
        (["--beta", "1e-9"], "Error: --beta 1e-09: at least"),
        (["--target", "2"], "Error: --target 2.0: choose a reward inside (0, 1)"),
        (["--reward-target", "2"], "Error: --reward-target 2.0: choose"),
        (["--delta", "1"], "Error: --delta 1.0: must lie strictly"),
        (["--loss-budget", "-1"], "Error: --loss-budget -1.0: must be one positive"),
        (
            ["--loss-budget", "1", "--reward-target", "0.5"],
            "Error: --loss-budget 1.0, --reward-target 0.5: give one of the two",
        ),
        (["--reward", "score"], "name those of the prompt and its reward"),
    ],
)
def test_the_command_names_what_is_wrong(file, change, message):
    result = run(file, "--reward-low", "0", "--reward-high", "1", *change)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("name", ["no.jsonl", "no.parquet"])
def test_the_command_misses_its_file(name):
    result = run(name, "--reward-low", "0", "--reward-high", "1")
    assert result.exit_code == 2 and f"Error: {name}: no such file" in result.output


def test_the_command_asks_for_bounds_that_no_file_says(file):
    both = run(file, "--beta", "1")
    assert both.exit_code == 2 and "give --reward-low and --reward-high" in both.output
    one = run(file, "--beta", "1", "--reward-low", "0")
    assert one.exit_code == 2 and "give --reward-high, the bounds" in one.output


def test_the_command_chooses_a_step(tmp_path):
    rows = [
        {"prompt": f"p{i}", "reward": (row + step) / 2, "step": step}
        for step in (0, 1)
        for i in range(40)
        for row in GRADES
    ]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    options = [str(path), "--reward-low", "0", "--reward-high", "1", "--beta", "1"]
    several = run(*options)
    assert several.exit_code == 2 and "responses of several policies" in several.output
    assert "40 prompts, 3 responses to each" in run(*options, "--step", "0").output
    assert "mean 0.75" in run(*options, "--step", "1").output
