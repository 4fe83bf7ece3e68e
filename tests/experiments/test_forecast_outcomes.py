"""Forecasts held against runs: what is read, what was reached, and a floor that is broken."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import forecast_outcomes
import numpy as np
import pytest
import qwen_validate
from forecast_outcomes import PAID, outcome_of, outcomes_of, table, what_rl_did
from rich.console import Console
from validate.checksums import read_sealed_json, sealed
from validate.configuration import configuration
from validate.disk import read_json
from validate.enumerated import report as enumerated_report
from validate.errors import RunError
from validate.finished_runs import Reached, complete_runs
from validate.forecasts import read_forecast, write_forecast
from validate.orders import STAGES
from validate.run_folder import RunFolder

from nondecoupling.forecast import Forecast, Samples
from nondecoupling.recipes import Recipe

RESULTS = Path(forecast_outcomes.__file__).parent / "results"
SMALL = "--prompts 16 --beta 0.8 --sft-steps 8 --rl-steps 8 --order sft-rl --checkpoint-every 4"
RL = STAGES["rl"]
CONFIG = configuration({"order": "sft-rl", "beta": 0.5})
# Of 400 prompts with success 0.2 to 0.4: what reaches 0.5 has a price.
DID = forecast_outcomes.WhatRlDid(
    reward=Reached.exact(0.5),
    expert_loss_change=Reached.exact(-0.2),
    own_loss_change=Reached.exact(0.3),
    kl=Reached.exact(0.25),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run of the enumerated protocol."""
    place = tmp_path_factory.mktemp("outcomes") / "run"
    with pytest.MonkeyPatch.context() as patch:  # pictures take most of the time of a run
        patch.setattr(enumerated_report, "plots", lambda *arguments: {})
        patch.setattr(enumerated_report, "_html", lambda *arguments: "")
        status = qwen_validate.main([*SMALL.split(), "--out", str(place)])
    assert status in qwen_validate.OUTCOMES.values()
    return place


def samples(success):
    rng = np.random.default_rng(0)
    chance = success * rng.uniform(0.2, 0.4, size=(400, 1))
    rewards, experts = rng.random((400, 16)) < chance, rng.random((400, 4)) < 0.7
    return Samples(rewards, reward_bounds=(0, 1), expert_rewards=experts)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """``written()`` is what was saved of the samples, read again; ``success`` scales their chances."""

    def made(recipe=None, success=1.0):
        folder = RunFolder(tmp_path_factory.mktemp("written"))
        of_them = partial(samples, success)
        write_forecast(folder, RL, of_them, CONFIG.beta, recipe, Console(quiet=True))
        return read_forecast(folder, RL, CONFIG)

    return made


@pytest.fixture(scope="module")
def exact(written):
    return written()


def outcome(written, did=DID, config=CONFIG):
    return outcome_of("run", RL, config, written, did)


def test_what_rl_reached_is_the_committed_report_s():
    folder = RunFolder(RESULTS / "tiny-qwen3")
    did = what_rl_did(folder, folder.configuration({}))
    assert list(did) == ["rl", "rl-first"]
    report = json.loads((RESULTS / "tiny-qwen3" / "report.json").read_text())
    for change in report["changes"]:
        if change["stage"] in did:
            reached = did[change["stage"]]
            assert reached.reward.value == pytest.approx(change["J"], rel=1e-12)
            assert reached.expert_loss_change.value == pytest.approx(change["loss_change"])
    moved = [p["observed"] for p in report["predictions"] if "KL(p||ref)" in p["quantity"]]
    assert [reached.kl.value for reached in did.values()] == pytest.approx(moved)


def test_the_forecast_is_the_one_that_was_saved(run, tmp_path):
    """Its numbers as the file has them, whatever these samples would give now."""
    folder = RunFolder(run)
    (before,) = outcomes_of(folder)
    saved = read_json(run / "forecast-sft.json")
    assert before.reward.forecast.value == saved["answers"]["at_beta"][0]["reward"]["value"]
    assert before.kl.forecast.high == saved["answers"]["at_beta"][0]["kl"]["high"]
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    saved["answers"]["at_beta"][0]["reward"]["value"] = 0.125
    del saved["sha256"]
    (tmp_path / "forecast-sft.json").write_text(json.dumps(sealed("forecast-sft.json", saved)))
    (after,) = outcomes_of(RunFolder(tmp_path))
    assert after.reward.forecast.value == 0.125
    assert replace(after, run=before.run, reward=before.reward) == before


def test_self_distilled_runs_have_no_experts(tmp_path, run):
    values = json.loads((run / "config.json").read_text()) | {"data_law": "self"}
    del values["sha256"]
    folder = RunFolder(tmp_path)
    folder.write_json("config.json", values)
    for name in ("metrics.jsonl", "forecast-sft.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (found,) = outcomes_of(folder)
    assert found.expert_loss_change is None
    assert "| none | none |" in table([found]) and "experts' data rose" not in table([found])


def test_a_policy_that_pays_too_little_breaks_the_floor(exact):
    sound = outcome(exact)
    assert sound.floor > 0 and sound.floor_holds and sound.says_something
    cheap = Reached.exact(sound.floor / 2)
    assert not outcome(exact, replace(DID, own_loss_change=cheap)).floor_holds
    # An estimate whose interval reaches above the floor breaks nothing.
    unsure = Reached(sound.floor / 2, 0.0, sound.floor * 2)
    assert outcome(exact, replace(DID, own_loss_change=unsure)).floor_holds


def test_an_estimated_reward_is_priced_at_its_lower_end(exact):
    unsure = replace(DID, reward=Reached(0.5, 0.45, 0.55))
    assert outcome(exact, unsure).floor < outcome(exact).floor


def test_a_beta_that_the_samples_do_not_support_has_no_number(written):
    found = outcome(written(success=0.1))
    assert found.reward.forecast is None and "show one reward only" in found.unsupported
    text = table([found])
    assert text.count("not supported") == 4 and "no beta was supported" in text
    assert "how often" not in text
    assert found.floor > 0


def test_every_number_stands_next_to_what_was_reached(exact):
    found = outcome(exact)
    text = table([found])
    head, _, line = text.splitlines()[:3]
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    for number, title in forecast_outcomes.NUMBERS.items():
        assert cells[f"{title}: forecast"] == "{:.3f} in [{:.3f}, {:.3f}]".format(
            *(exact.at_beta[number][end] for end in ("value", "low", "high"))
        )
    assert cells["floor"] == f"{found.floor:.3f}" and line.endswith("| 0.250 |")
    assert f"| +0.300 | {found.floor:.3f} | " in line


def test_how_often_rl_landed_in_the_interval(exact):
    """Above it, in it and below it; the intervals are about another policy, and the sentence says so."""
    inside = outcome(exact, replace(DID, kl=Reached.exact(exact.at_beta["kl"]["value"])))
    outside = [
        outcome(exact, replace(DID, kl=Reached.exact(exact.at_beta["kl"][end] + beyond)))
        for end, beyond in (("high", 0.01), ("low", -0.01))
    ]
    text = table([inside, *outside])
    assert "KL(p‖ref), 1 of 3." in text
    assert "about the exact optimum at that beta and not about a trained policy" in text


def test_an_interval_that_is_open_is_not_counted_as_met(written):
    """The loss on the experts' data of a normalised trainer has no limits, and KL(p||ref) no forecast."""
    found = outcome(written(Recipe("group-normalised", "k3-with-ratio", 2.0, group_size=8)))
    assert found.expert_loss_change.forecast.high == math.inf
    assert not found.expert_loss_change.has_two_ends
    text = table([found])
    assert ", no limits | -0.200 |" in text and "| none | 0.250 |" in text
    counted = text[text.index("how often") :]
    assert "expert loss" not in counted and "KL" not in counted and "own loss change, " in counted


def test_learning_rates_are_told_apart_where_there_are_several(exact):
    rates = (0.25, 0.5)
    found = [outcome(exact, config=replace(CONFIG, rl_rate=rate)) for rate in rates]
    assert "learning rate" not in table(found[:1])
    text = table(found)
    assert "| beta | learning rate | seed |" in text and "| 0.25 | 0 |" in text
    assert "at learning rate 0.25, one stage" in text and "at learning rate 0.5, one stage" in text


def test_the_script_writes_its_table_and_says_a_broken_floor(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert forecast_outcomes.main([str(run), "--write", str(out)]) == 0
    assert "- No floor could be broken, among one stage: " in capsys.readouterr().out
    (line,) = json.loads((out / "outcomes.json").read_text())
    assert set(line["kl"]) == {"forecast", "reached"} and line["unsupported"] is None
    assert line["own_loss_change"]["reached"]["value"] > 0
    assert "forecast_outcomes.py" in (out / "table.md").read_text()
    monkeypatch.setattr(forecast_outcomes.ForecastOutcome, "floor_holds", False)
    assert forecast_outcomes.main([str(run)]) == 5


def test_runs_without_a_forecast_are_left_out_by_name(run, capsys):
    """Of an earlier version, sampled and enumerated: nothing is forecast afterwards."""
    older = [RESULTS / name for name in ("tiny-qwen3", "tiny-qwen3-sampled")]
    assert forecast_outcomes.main([*map(str, older), str(run)]) == 0
    told = capsys.readouterr()
    for folder in older:
        assert f"{folder}: RL after SFT is left out: {folder / 'forecast-sft.json'}" in told.err
    assert "run it anew: python experiments/qwen_validate.py --protocol sampled" in told.err
    assert told.out.count("RL after SFT") == 1
    assert forecast_outcomes.main([str(older[0])]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_a_reward_at_the_edge_of_its_range_has_no_floor(exact):
    """All else is compared; what the lower end of an estimate reaches is what counts."""
    for reward in (Reached.exact(0.0), Reached(0.01, 0.0, 0.02), Reached.exact(1.0)):
        found = outcome(exact, replace(DID, reward=reward))
        assert found.floor is None and found.floor_holds and not found.says_something
        assert "| +0.300 | none | " in table([found])
    assert outcome(exact, replace(DID, reward=Reached(0.99, 0.98, 1.0))).floor > 0


def test_another_error_of_a_floor_is_not_taken_for_an_edge(exact, monkeypatch):
    def faulty(*arguments):
        raise ValueError("shapes")

    monkeypatch.setattr(Forecast, "at_reward", faulty)
    with pytest.raises(ValueError, match="shapes"):
        outcome(exact)


def test_what_a_floor_rests_on_is_said(exact):
    text = table([outcome(exact)])
    assert "A floor holds at level 0.95; in a sampled run it is that of the lower end" in text
    assert "The floor held in 1 of 1 where it could have been broken" in text
    assert "No floor could be broken" not in text


def test_the_summary_says_on_which_side_of_the_forecast_rl_ended(exact):
    value = {name: exact.at_beta[name]["value"] for name in ("reward", "own_loss_change")}

    def ended(reward, loss):
        reached = {"reward": value["reward"] + reward, "own_loss_change": value[PAID] + loss}
        exactly = {name: Reached.exact(one) for name, one in reached.items()}
        return outcome(exact, replace(DID, expert_loss_change=None, **exactly))

    above, below = ended(0.04, -0.03), ended(-0.02, 0.05)
    own = "the SFT loss on the start policy's own data rose by"
    text = table([above])
    assert (
        f"RL ended 0.040 of reward above the forecast; {own} 0.030 nats less than forecast." in text
    )
    text = table([below])
    assert (
        f"RL ended 0.020 of reward below the forecast; {own} 0.050 nats more than forecast." in text
    )
    span = "(reached less forecast: from -0.020 to +0.040)"
    assert f"RL ended 0.010 of reward above the forecast {span}; " in table([above, below])


def test_a_forecast_without_a_value_is_shown_and_counts_for_no_average(exact):
    """As it is saved where it is not finite."""
    own = exact.at_beta[PAID] | {"value": None, "high": None}
    found = outcome(replace(exact, at_beta=exact.at_beta | {PAID: own}))
    text = table([found, outcome(exact)])
    assert f"| no number in [{own['low']:.3f}, inf] | +0.300 |" in text
    less = exact.at_beta[PAID]["value"] - 0.3
    assert f"own data rose by {less:.3f} nats less than forecast." in text and "nan" not in text


def damaged(run, place, what):
    """A copy of a run, or of a committed one without measurements, that has a forecast and cannot be read."""
    if what == "no measurements":
        shutil.copytree(RESULTS / "tiny-qwen3-sampled", place)
        shutil.copy(run / "forecast-sft.json", place)
        return "has no measurements/"
    shutil.copytree(run, place)
    if what == "other data":
        RunFolder(place).record_inputs({"task": "of the file as it was"})
        return "is not what it was when the run"
    (place / what).write_text("{}")
    return f"{what} is damaged" if what == "config.json" else f"{what} ends"


@pytest.mark.parametrize("what", ["no measurements", "other data", "config.json", "metrics.jsonl"])
def test_a_run_that_cannot_be_read_does_not_lose_the_others(
    run, tmp_path, capsys, monkeypatch, what
):
    place = tmp_path / "broken"
    why = damaged(run, place, what)
    assert forecast_outcomes.main([str(place), str(run)]) == 1
    told = capsys.readouterr()
    assert told.out.count("| RL after SFT |") == 1
    *_, named, last = told.err.splitlines()
    assert named.startswith(f"{place} is left out: ") and why in named
    assert last == "Error: 1 of the runs could not be read and is left out, see above"
    assert forecast_outcomes.main([str(place)]) == 2
    monkeypatch.setattr(forecast_outcomes.ForecastOutcome, "floor_holds", False)
    assert forecast_outcomes.main([str(place), str(run)]) == 5


def test_a_forecast_that_cannot_be_read_does_not_lose_the_other_runs(run, tmp_path, capsys):
    place = shutil.copytree(run, tmp_path / "newer") / "forecast-sft.json"
    newer = read_sealed_json(place) | {"format": "nondecoupling forecast 99"}
    place.write_text(json.dumps(sealed(place.name, newer)))
    assert forecast_outcomes.main([str(place.parent), str(run)]) == 0
    told = capsys.readouterr()
    assert told.out.count("| RL after SFT |") == 1
    assert f"{place.parent}: RL after SFT is left out: {place}: not a file that" in told.err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(RunError, match="has no complete run in it"):
        complete_runs([tmp_path])
    assert forecast_outcomes.main([str(tmp_path)]) == 2
    assert "has no complete run" in capsys.readouterr().err


def test_a_run_that_several_folders_lead_to_counts_once(tmp_path, monkeypatch):
    sweep = tmp_path / "sweep"
    for name in ("a", "b"):
        run = sweep / "trials" / name
        run.mkdir(parents=True)
        for file in ("config.json", "report.json"):
            (run / file).touch()
    whole = complete_runs([sweep])
    assert whole == [sweep / "trials" / "a", sweep / "trials" / "b"]
    (tmp_path / "link").symlink_to(sweep)
    monkeypatch.chdir(sweep)
    places = [sweep, sweep / "trials", Path("trials/../trials/b"), tmp_path / "link", sweep]
    assert complete_runs(places) == whole
    assert complete_runs([Path("trials/b"), sweep]) == [Path("trials/b"), whole[0]]


def test_a_run_that_is_named_twice_is_one_line(run, capsys):
    assert forecast_outcomes.main([str(run), str(run), str(run.parent)]) == 0
    assert capsys.readouterr().out.count("| RL after SFT |") == 1


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize("rl", ["rloo", "grpo", "k3-in-loss"])
def test_a_sampled_run(tmp_path, rl):
    sizes = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 40, "responses": 8}
    sizes |= {"sft-steps": 40, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    given = ["--protocol", "sampled", "--order", "sft-rl", "--beta", "2", "--rl", rl]
    assert qwen_validate.main([*given, *words, "--out", str(tmp_path / "run")]) == 0
    folder = RunFolder(tmp_path / "run")
    (found,) = outcomes_of(folder)
    made = read_forecast(folder, RL, folder.configuration({})).forecast
    assert made.samples.ref_rewards.shape == (40, 8)
    assert (made.recipe is None) == (rl == "rloo")
    averages = json.loads((tmp_path / "run" / "report.json").read_text())["averages"]
    assert found.reward.reached.value == pytest.approx(averages[1]["reward"])
    rise = averages[1]["excess_loss"] - averages[0]["excess_loss"]
    assert found.expert_loss_change.reached.value == pytest.approx(rise)
    assert found.kl.reached.value == pytest.approx(averages[1]["kl_to_ref"])
    assert found.floor_holds and found.trainer == rl
    assert "| sampled |" in table([found])
