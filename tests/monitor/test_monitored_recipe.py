"""A monitor that knows the trainer: what that pays for the reward of the run, and at which of its betas."""

import json

import numpy as np
import pyarrow
import pytest

from nondecoupling.bounds import group_normalized_success, kl_divergence
from nondecoupling.collected import CollectedSamples, Origin
from nondecoupling.forecast import Samples, forecast
from nondecoupling.monitor import CouplingMonitor, PriceCurves
from nondecoupling.recipes import Recipe
from tests.command_line import invoke

FORWARD = Recipe("leave-one-out", "k3-in-loss", beta=0.5)
NORMALISED = Recipe("group-normalised", "k3-with-ratio", beta=1.5, group_size=8)
# Its path ends at its critical beta, at a reward that the samples have.
SOON_CRITICAL = Recipe("group-normalised", "k2-in-loss", beta=1.5, eps=0.0)
UNHELD = Recipe("leave-one-out", "none", beta=0.0)
ORIGIN = Origin("a model", "1", "2", "3", 16, 8, 0, 4, (0.0, 1.0), ("right",), "4")
PROMPTS = [f"p{x}" for x in range(40)]
# One law, so that curves are made at once; three levels, so that a forward leash does not end at a tilt.
GRADED = np.tile([0.0, 0.5, 0.5, 1.0], (40, 4))
BINARY = np.tile([0.0, 1.0], (40, 8))


def samples_of(rewards):
    return Samples(rewards, reward_bounds=(0, 1))


@pytest.mark.parametrize("beta", [0.3, 0.7])
def test_a_forward_leash_pays_its_own_path(beta):
    samples = samples_of(GRADED)
    answer = forecast(samples, recipe=FORWARD).at_beta(beta)
    reading = CouplingMonitor(samples, recipe=FORWARD).update(
        1, None, np.full(40, answer.reward.value)
    )
    assert reading.price_recipe.value == pytest.approx(answer.own_loss_change.value, rel=0.02)
    assert reading.beta_recipe.value == pytest.approx(beta, rel=0.02)
    # It is the cheapest, and the tilt pays more.
    assert reading.price_recipe.value == pytest.approx(reading.price.value, rel=0.02)
    assert reading.price_tilt.value > 1.02 * reading.price_recipe.value


def test_normalised_advantages_have_their_beta():
    end = group_normalized_success(0.5, 8, 1.5, "reverse")
    success = float(end.success)
    reading = CouplingMonitor(samples_of(BINARY), recipe=NORMALISED).update(
        1, None, np.full(40, success)
    )
    assert reading.beta_recipe.value == pytest.approx(1.5, rel=0.02)
    paid = kl_divergence(np.log([0.5, 0.5]), np.log([1 - success, success]))
    assert reading.price_recipe.value == pytest.approx(float(paid), rel=0.02)
    assert reading.beta_equivalent.value < 0.8 * reading.beta_recipe.value


def test_beyond_the_critical_beta_there_are_bounds():
    reading = CouplingMonitor(samples_of(BINARY), recipe=NORMALISED).update(1, None, np.ones(40))
    assert (reading.price_recipe.sign, reading.beta_recipe.sign) == (">=", "<=")
    assert "of the recipe >= " in str(reading)


@pytest.mark.parametrize(
    ("rewards", "recipe", "reward", "bound"),
    [
        (GRADED, FORWARD, 0.7, 0.0),
        (BINARY, SOON_CRITICAL, 0.9, 1.0),
        (BINARY, NORMALISED, 1.0, 1.0),
    ],
)
def test_a_recipe_changes_no_alarm_and_no_other_number(rewards, recipe, reward, bound):
    log_ref = np.full((40, 16), -3.0)
    both = [
        CouplingMonitor(samples_of(rewards), recipe=told, max_overpayment=0.01).update(
            1, log_ref - 1, np.full(40, reward), log_ref=log_ref
        )
        for told in (None, recipe)
    ]
    plain, told = (reading.to_dict() for reading in both)
    assert plain["price_recipe"] is None and told["price_recipe"] is not None
    for reading in (plain, told):
        del reading["price_recipe"], reading["beta_recipe"]
    assert plain == told
    without, known = (reading.metrics() for reading in both)
    own = {name: known[name] for name in known if "recipe" in name}
    assert known == without | own and not own.keys() & without.keys()
    assert own["coupling/price_recipe_bound"] == bound
    paid, floor = own["coupling/price_recipe"], without["coupling/price_floor"]
    assert paid == floor if bound else paid > 0
    assert known["coupling/beyond_samples"] == (reward == 1.0)


def test_a_forecast_brings_its_recipe():
    samples = samples_of(GRADED)
    plan = forecast(samples, recipe=FORWARD)
    for monitor in (CouplingMonitor(plan), CouplingMonitor(plan, recipe=FORWARD)):
        assert monitor.recipe == FORWARD
        assert monitor.update(1, None, np.full(40, 0.7)).price_recipe.value > 0
    with pytest.raises(ValueError, match=r"recipe=.*the Forecast is of leave-one-out"):
        CouplingMonitor(plan, recipe=UNHELD)
    with pytest.raises(ValueError, match="the Forecast is of exact RL"):
        CouplingMonitor(forecast(samples), recipe=FORWARD)
    with pytest.raises(ValueError, match=r"recipe='grpo': give nondecoupling.recipes"):
        CouplingMonitor(samples, recipe="grpo")


@pytest.mark.parametrize("recipe", [UNHELD, NORMALISED])
def test_a_recipe_without_a_path_says_why(recipe):
    monitor = CouplingMonitor(samples_of(GRADED), recipe=recipe)
    reading = monitor.update(1, None, np.full(40, 0.7))
    assert reading.price_recipe is None and reading.price_tilt.value > 0
    expected = forecast(samples_of(GRADED), recipe=recipe).at_beta(1.0)
    assert monitor.prices.refusal == expected
    assert PriceCurves(samples_of(GRADED), 0.1).refusal is None


@pytest.fixture
def command(tmp_path):
    table = {"prompt": PROMPTS, "reward": GRADED.tolist(), "log_ref": [[-3.0] * 16] * 40}
    CollectedSamples(pyarrow.table(table), ORIGIN).write(tmp_path / "ref.parquet")
    rows = [{"input": prompt, "score": 0.7} for prompt in PROMPTS]
    (tmp_path / "20.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ["monitor", str(tmp_path / "20.jsonl"), "--samples", str(tmp_path / "ref.parquet")]


def options_in(folder, **options):
    (folder / "recipe.json").write_text(json.dumps(options))
    return ["--recipe", str(folder / "recipe.json")]


def test_the_command_says_what_python_says(command, tmp_path):
    given = options_in(tmp_path, advantage="leave-one-out", leash="k3-in-loss", beta=0.5)
    shown = invoke(*command, *given, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    monitor = CouplingMonitor(tmp_path / "ref.parquet", recipe=FORWARD)
    reading = monitor.update(20, None, np.full(40, 0.7), look=42)
    assert found["readings"] == [reading.to_dict()]
    assert found["recipe"]["leash"] == "k3-in-loss" and found["recipe_unsupported"] is None
    table = invoke(*command, *given).stdout
    assert "the recipe: leave-one-out advantages, leash k3-in-loss" in table
    assert "beta of the recipe" in table
    assert "recipe" not in invoke(*command).stdout


def test_trls_options_and_the_page(command, tmp_path):
    pytest.importorskip("matplotlib")
    given = options_in(tmp_path, beta=0.5, temperature=0.7)
    shown = invoke(*command, *given, "--trainer", "rloo", "--html", str(tmp_path / "run.html"))
    assert shown.exit_code == 0, shown.output
    assert "outside the theory: temperature" in shown.stdout
    page = (tmp_path / "run.html").read_text()
    assert "The recipe: leave-one-out advantages, leash k1-in-reward, beta 0.5" in page
    assert "beta of the recipe" in page and "<!-- the recipe -->" in page  # the label of its path


def test_the_command_says_why_a_recipe_has_no_path(command, tmp_path):
    given = options_in(tmp_path, advantage="leave-one-out", leash="none", beta=0)
    shown = invoke(*command, *given, "--html", str(tmp_path / "run.html"))
    assert shown.exit_code == 0, shown.output
    for text in (shown.stdout, (tmp_path / "run.html").read_text()):
        assert "the recipe is not supported: nothing holds the policy" in " ".join(text.split())
    told = json.loads(invoke(*command, *given, "--json").stdout)
    assert "nothing holds the policy" in told["recipe_unsupported"]


@pytest.mark.parametrize("name", ["forecast", "monitor"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"advantage": "leave-one-out", "leash": "none", "beta": 0, "x": 1}, "x: no field of"),
        ({"advantage": "leave-one-out"}, "leash and beta missing"),
        ({"advantage": "best"}, "leash and beta missing"),
        ({"advantage": "best", "leash": "none", "beta": 0}, "advantage='best': one of"),
        ({"beta": "high"}, "beta='high': give a number"),
    ],
)
def test_an_unknown_recipe_is_named(command, tmp_path, name, options, named):
    words = command if name == "monitor" else ["forecast", str(tmp_path / "ref.parquet")]
    shown = invoke(*words, *options_in(tmp_path, **options))
    assert shown.exit_code == 2 and named in shown.output, shown.output
