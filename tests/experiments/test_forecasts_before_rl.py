"""Runs write the forecast of RL before RL's first step: when, from what, and that it never stops a run."""

import json
import re
import shlex
import shutil
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import qwen_validate
import validate.session
from rich.console import Console
from validate import forecasts
from validate.checksums import read_sealed_json, sealed
from validate.configuration import ENUMERATED, configuration
from validate.disk import read_json
from validate.enumerated import forecasting as enumerated_forecasting
from validate.enumerated import report as enumerated_report
from validate.enumerated.inputs import inputs_of
from validate.enumerated.training import Trainer
from validate.errors import RunFolderError
from validate.forecasts import NoForecast, read_forecast, rl_stages, write_forecast
from validate.orders import ORDERS, STAGES
from validate.run_folder import RunFolder
from validate.sampled import forecasting
from validate.sampled import run as sampled_run
from validate.sampled.forecasting import forecast_rl_from, recipe_of_trl
from validate.sampled.training import _Recorder

from nondecoupling.forecast import Forecast, Samples
from nondecoupling.recipes import Recipe

SMALL = "--prompts 16 --beta 0.8 --sft-steps 8 --rl-steps 8 --checkpoint-every 4"
RL = STAGES["rl"]


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """Plots and HTML take most of the time of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enumerated_report, "plots", lambda *arguments: {})
        patch.setattr(enumerated_report, "_html", lambda *arguments: "")
        yield


def run(folder, *given, order="sft-rl"):
    return qwen_validate.main([*SMALL.split(), "--order", order, *given, "--out", str(folder)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, without_pictures):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder) in qwen_validate.OUTCOMES.values()
    return folder


def stopped(folder, monkeypatch, step):
    """A run that was stopped before this step of RL."""
    advance = Trainer.advance

    def stop(trainer):
        if trainer.goal.objective == "rl" and trainer.step == step:
            raise KeyboardInterrupt
        advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", stop)
        assert run(folder) == qwen_validate.EXIT_STOPPED
    return folder / "forecast-sft.json"


def resume(folder, *more):
    return qwen_validate.main(["--out", str(folder), "--resume", *more])


def test_it_is_there_before_rl_s_first_step_and_stays_to_the_byte(tmp_path, monkeypatch, whole):
    place = stopped(tmp_path / "run", monkeypatch, 0)
    assert '"stage": "rl"' not in (tmp_path / "run" / "metrics.jsonl").read_text()
    before = place.read_bytes()
    assert resume(tmp_path / "run") in qwen_validate.OUTCOMES.values()
    assert place.read_bytes() == before
    assert (whole / "forecast-sft.json").read_bytes() == before


def test_a_run_that_goes_on_keeps_the_file_that_is_there(tmp_path, monkeypatch):
    place = stopped(tmp_path / "run", monkeypatch, 0)
    place.write_text("written before RL")
    resume(tmp_path / "run")
    assert place.read_text() == "written before RL"


def test_none_is_written_after_rl_has_begun(tmp_path, monkeypatch):
    place = stopped(tmp_path / "run", monkeypatch, 6)
    place.unlink()
    resume(tmp_path / "run")
    assert (tmp_path / "run" / "report.json").exists() and not place.exists()
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(NoForecast, match=r"forecast-sft\.json is missing: .* run it anew: python"):
        read_forecast(folder, RL, folder.configuration({}))


def test_restarting_forgets_it_with_its_ref_only(tmp_path, whole):
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    config = folder.configuration({})
    protocol = qwen_validate._protocol(config)
    folder.restart_from("rl", config, protocol.planned)
    assert (tmp_path / "run" / "forecast-sft.json").exists()
    folder.restart_from("sft", config, protocol.planned)
    assert not (tmp_path / "run" / "forecast-sft.json").exists()


def test_it_is_what_forecast_saves_at_the_run_s_beta(whole):
    folder = RunFolder(whole)
    config = folder.configuration({})
    found = read_forecast(folder, RL, config)
    made = Forecast.load(whole / "forecast-sft.json")
    assert found.at_beta == made.at_beta(0.8).to_dict()
    assert found.forecast.samples.ref_rewards.shape == (16, 32)
    assert found.forecast.samples.expert_rewards.shape == (16, 16)
    reward = inputs_of(config).task.reward
    lines = map(json.loads, (whole / "metrics.jsonl").read_text().splitlines())
    ends = {line["stage"]: (np.exp(np.array(line["log_p"])) * reward).sum(axis=1) for line in lines}
    rewards = made.samples.ref_rewards
    error = rewards.std() / np.sqrt(rewards.size)
    assert abs(rewards.mean() - ends["sft"].mean()) < 4 * error


def test_what_refuses_a_forecast_does_not_stop_a_run(tmp_path, capsys):
    assert run(tmp_path / "run", "--prompts", "3") in qwen_validate.OUTCOMES.values()
    assert "no forecast of RL after SFT: " in " ".join(capsys.readouterr().out.split())
    refused = read_sealed_json(tmp_path / "run" / "forecast-sft.json")["refused"]
    assert "3 prompts" in refused
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(NoForecast, match=r"could be made before RL: .*3 prompts"):
        read_forecast(folder, RL, folder.configuration({}))


def test_a_fault_of_the_program_does_not_stop_a_run(tmp_path, monkeypatch, capsys):
    def faulty(*arguments):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(enumerated_forecasting, "drawn_rewards", faulty)
    assert run(tmp_path / "run") in qwen_validate.OUTCOMES.values()
    told = " ".join(capsys.readouterr().out.split())
    assert "Traceback (most recent call last)" in told and "in faulty" in told
    assert "no forecast of RL after SFT, by a fault of the program: ValueError: operands" in told


def test_self_distilled_data_have_no_experts(tmp_path):
    run(tmp_path / "run", "--data-law", "self")
    found = Forecast.load(tmp_path / "run" / "forecast-sft.json")
    assert found.samples.expert_rewards is None


def test_only_rl_alone_is_forecast(tmp_path):
    found = {order: [s.name for s in rl_stages(asked(order))] for order in ORDERS}
    assert {order for order, names in found.items() if names} == {
        "sft-rl",
        "rl-sft",
        "cycle",
        "replay",
    }
    assert found["rl-sft"] == ["rl-first"] and found["replay"] == ["rl"]
    run(tmp_path / "run", order="joint")
    assert not list((tmp_path / "run").glob("forecast-*"))


def asked(order, **more):
    return configuration({"order": order, "protocol": ENUMERATED, **more})


# Of itself: which process writes, and what is read back.


def samples(levels=(0.0, 1.0), prompts=40):
    rewards = np.random.default_rng(0).choice(levels, size=(prompts, 8))
    return Samples(rewards, reward_bounds=(min(levels), max(levels)))


def write(place, made=samples, recipe=None, writes=True, beta=1.0, console=None):
    folder = RunFolder(place, writes=writes)
    write_forecast(folder, RL, made, beta, recipe, console or Console(quiet=True))
    return folder


def faulty(*arguments):
    raise ValueError("shapes (3,) and (4,) do not go together")


def of_other_prompts():
    rewards = samples().ref_rewards
    return Samples(rewards, reward_bounds=(0, 1), expert_rewards=rewards[:20])


@pytest.mark.parametrize(
    ("made", "broken", "error"),
    [
        (faulty, None, "ValueError: shapes"),
        (of_other_prompts, None, "ValueError: expert_rewards has 20 rows"),
        (samples, "at_beta", "ValueError: shapes"),
        (samples, "save", "ValueError: shapes"),
    ],
)
def test_a_fault_of_the_program_is_no_refusal(tmp_path, monkeypatch, made, broken, error):
    if broken:
        monkeypatch.setattr(Forecast, broken, faulty)
    folder = write(tmp_path, made)
    found = read_sealed_json(tmp_path / "forecast-sft.json")
    assert list(found) == ["failed"] and found["failed"].startswith(error)
    with pytest.raises(NoForecast, match=f"by a fault of the program: {error}.* run it anew: "):
        read_forecast(folder, RL, asked("sft-rl"))


def test_a_damaged_run_is_not_a_matter_of_its_forecast(tmp_path):
    def damaged():
        raise RunFolderError("a line of measurements/sft.jsonl is damaged")

    with pytest.raises(RunFolderError, match="a line of"):
        write(tmp_path, damaged)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("made", "beta", "why"),
    [
        (lambda: samples(prompts=3), 1.0, "3 prompts"),
        (lambda: Samples(np.zeros((40, 8)), reward_bounds=(0, 1)), 1.0, "have one reward"),
        (samples, 1e-9, "betas=1e-09"),
    ],
)
def test_what_forecast_refuses_is_written(tmp_path, made, beta, why):
    write(tmp_path, made, beta=beta)
    found = read_sealed_json(tmp_path / "forecast-sft.json")
    assert list(found) == ["refused"] and why in found["refused"]


def test_a_number_that_is_not_finite_is_told_as_none(tmp_path, monkeypatch):
    as_saved = forecasts._as_saved

    def endless(made):
        written = as_saved(made)
        written["answers"]["at_beta"][0]["own_loss_change"]["value"] = None
        return written

    monkeypatch.setattr(forecasts, "_as_saved", endless)
    console = Console(record=True, width=200, file=StringIO())
    write(tmp_path / "run", console=console)
    assert re.search(r"before it: reward 0\.\d+, for no number nats of", console.export_text())


def test_only_the_first_process_writes(tmp_path):
    write(tmp_path, made=lambda: pytest.fail("drawn in vain"), writes=False)
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_the_rewards_do_not_go_with_is_an_answer(tmp_path):
    """T4 is about two levels; that is no reason to have no forecast: the floor holds for every trainer."""
    grpo = Recipe("group-normalised", "k3-with-ratio", 1.0, group_size=8)
    folder = write(tmp_path, lambda: samples((0.0, 0.5, 1.0)), grpo)
    found = read_forecast(folder, RL, asked("sft-rl"))
    assert "two levels of reward" in found.at_beta["unsupported"]
    assert found.forecast.at_reward(0.9).price.low >= 0


def test_a_file_that_was_changed_is_refused(tmp_path):
    folder = write(tmp_path)
    place = tmp_path / "forecast-sft.json"
    assert read_forecast(folder, RL, asked("sft-rl")).at_beta["beta"] == 1.0
    value = str(read_json(place)["answers"]["at_beta"][0]["reward"]["value"])
    assert place.read_text().count(value) == 1
    place.write_text(place.read_text().replace(value, "0.5"))
    with pytest.raises(NoForecast, match="its checksum says that it is not what the run wrote"):
        read_forecast(folder, RL, asked("sft-rl"))


def test_a_file_of_another_version_is_no_forecast(tmp_path):
    folder = write(tmp_path)
    place = tmp_path / "forecast-sft.json"
    newer = read_sealed_json(place) | {"format": "nondecoupling forecast 99"}
    place.write_text(json.dumps(sealed(place.name, newer)))
    with pytest.raises(NoForecast, match=r"not a file that Forecast\.save wrote .* run it anew"):
        read_forecast(folder, RL, asked("sft-rl"))


def test_what_to_do_without_a_forecast_is_a_command_that_begins_the_same_run(tmp_path, monkeypatch):
    class BegunError(Exception):
        pass

    def begin(folder, *arguments):
        raise BegunError(folder.path, folder.path.exists())

    old = tmp_path / "a run"
    old.mkdir()
    monkeypatch.chdir(old)
    config = asked("sft-rl", beta=0.7)
    with pytest.raises(NoForecast, match="it was removed, or an earlier version began RL") as why:
        read_forecast(RunFolder(Path()), RL, config)
    words = shlex.split(str(why.value).partition("run it anew: ")[2])
    assert words[:2] == ["python", "experiments/qwen_validate.py"]
    monkeypatch.setattr(validate.session, "Session", begin)
    with pytest.raises(BegunError) as begun:
        qwen_validate.main(words[2:])
    assert begun.value.args == (tmp_path / "a run-anew", False)
    assert words[2:-2] == ["--order", "sft-rl", "--beta", "0.7"]


# Sampled.


class Measured:
    """Of 60 prompts, the first of which are those of the pilot."""

    def __init__(self, rewards):
        self.rewards = rewards
        self.expert_rewards = np.tile([0.0, 1.0], (len(rewards), 1))

    def part(self, first, last):
        return Measured(self.rewards[first:last])


@pytest.fixture
def measured(monkeypatch):
    """Inputs, and the rewards in the place of a measurement."""
    rewards = samples(prompts=60).ref_rewards
    monkeypatch.setattr(forecasting, "load_measurement", lambda place, prompts: Measured(rewards))
    task = SimpleNamespace(evaluation=range(60), log_d=np.log(np.full((60, 2), 0.5)))
    return SimpleNamespace(task=task, reward=SimpleNamespace(bounds=(0.0, 1.0))), rewards


def forecast_sampled(place, inputs, **more):
    config = configuration({"protocol": "sampled", "pilot_prompts": 20, "beta": 2.0, **more})
    folder = RunFolder(place)
    forecast_rl_from("sft", config, folder, inputs, Path("of-sft"), Console(quiet=True))
    return folder, config


def test_grpo_is_forecast_as_the_trainer_that_it_is(tmp_path, measured):
    """TRL's defaults divide by a group's standard deviation: a leash of another unit, and another end (T4)."""
    inputs, rewards = measured
    folder, config = forecast_sampled(tmp_path, inputs, rl="grpo")
    found = read_forecast(folder, RL, config)
    assert found.forecast.recipe == recipe_of_trl(config)
    assert found.forecast.recipe.advantage == "group-normalised"
    assert found.at_beta["beta"] == 2.0 and "(T4)" in found.at_beta["reward"]["how"]
    np.testing.assert_array_equal(found.forecast.samples.ref_rewards, rewards[20:])
    assert found.forecast.samples.expert_rewards.shape == (40, 16)
    exact, config = forecast_sampled(tmp_path / "rloo", inputs)
    without = read_forecast(exact, RL, config)
    assert without.forecast.recipe is None
    assert without.at_beta["reward"]["value"] < found.at_beta["reward"]["value"]


@pytest.mark.parametrize("trace", ["training/rl", "measurements/rl.jsonl", "policies/rl.pt"])
def test_a_sampled_run_writes_none_after_rl_has_begun(tmp_path, measured, trace):
    (tmp_path / trace).mkdir(parents=True)
    forecast_sampled(tmp_path, measured[0], order="sft-rl")
    assert not list(tmp_path.glob("forecast-*"))


def test_a_sampled_run_has_none_of_joint_training(tmp_path, measured):
    forecast_sampled(tmp_path, measured[0], order="joint")
    assert not list(tmp_path.glob("forecast-*"))


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize("rl", ["rloo", "grpo"])
def test_a_sampled_run_has_it_before_rl(tmp_path, monkeypatch, rl):
    sizes = "--train-prompts 200 --pilot-prompts 5 --eval-prompts 30 --responses 4 --sft-steps 40"
    sizes += " --rl-steps 8 --sft-batch 16 --rl-prompts 2 --generations 4 --checkpoint-every 4"
    folder = tmp_path / "run"
    given = ["--protocol", "sampled", "--order", "sft-rl", "--beta", "4", "--rl", rl]
    place, on_step_end = folder / "forecast-sft.json", _Recorder.on_step_end

    def stop(*arguments):
        raise KeyboardInterrupt

    def stop_in_rl(recorder, args, state, control, **kwargs):
        if recorder.stage == "rl" and state.global_step == 6:
            raise KeyboardInterrupt
        on_step_end(recorder, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(sampled_run, "rl_trainer", stop)
        assert qwen_validate.main([*given, *sizes.split(), "--out", str(folder)]) == 130
    before = place.read_bytes()
    assert "refused" not in read_sealed_json(place)
    with monkeypatch.context() as patch:
        patch.setattr(_Recorder, "on_step_end", stop_in_rl)
        assert resume(folder, *given) == 130
    assert place.read_bytes() == before
    place.unlink()
    assert resume(folder, *given) in qwen_validate.OUTCOMES.values()
    assert (folder / "report.json").exists() and not place.exists()
