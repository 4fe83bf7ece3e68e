"""The command monitor with a file of collect: whose scores are read, and that no alarm that was asked for is inert."""

import json
import re

import numpy as np
import pyarrow
import pytest

from nondecoupling.collected import CollectedSamples, Origin
from tests.command_line import invoke

PROMPTS = [f"problem {i}" for i in range(40)]
ORIGIN = Origin("a model", "1", "2", "3", 16, 8, 0, 4, (0.0, 1.0), ("right",), "4")
BOUNDS = ["--reward-low", "0", "--reward-high", "1"]


@pytest.fixture(autouse=True)
def made_curves(monkeypatch, curves):
    monkeypatch.setattr("nondecoupling.monitor.monitors.PriceCurves", lambda *given: curves)


@pytest.fixture
def ref(tmp_path, samples):
    """Makes a file of collect with scores of checkpoints: by name, how much each log-probability has fallen."""

    def made(experts=False, **fallen):
        log_ref = np.full((40, 16), -3.0)
        table = {
            "prompt": PROMPTS,
            "reward": samples.ref_rewards.tolist(),
            "log_ref": log_ref.tolist(),
        }
        if experts:
            table |= {"expert_reward": [[1.0]] * 40, "expert_log_ref": [[-2.0]] * 40}
        found = CollectedSamples(pyarrow.table(table), ORIGIN)
        for name, by in fallen.items():
            expert = np.full((40, 1), -2.0 + by / 2) if experts else None
            found = found.with_later(name, log_ref - by, expert)
        found.write(tmp_path / "ref.parquet")
        return str(tmp_path / "ref.parquet")

    return made


@pytest.fixture
def rollouts(tmp_path):
    """Makes verl's dump of one step."""

    def made(step, reward=0.5, **columns):
        rows = [{"input": p, "output": "x", "score": reward} | columns for p in PROMPTS]
        path = tmp_path / f"{step}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return made


def readings(*words):
    shown = invoke("monitor", *words, "--json")
    assert shown.exit_code in (0, 1), shown.output
    return {reading["step"]: reading for reading in json.loads(shown.stdout)["readings"]}


@pytest.mark.parametrize("bounds", [[], BOUNDS, BOUNDS[:2], BOUNDS[2:]])
def test_scores_of_collects_file_count_whatever_bounds_are_given_besides(ref, rollouts, bounds):
    file = ref(**{"200": 2.0})
    command = ["monitor", rollouts(200), "--samples", file, "--loss-budget", "0.5", *bounds]
    shown = invoke(*command)
    assert shown.exit_code == 1 and "ALARM" in shown.stdout, shown.output


def test_what_says_the_same_as_collects_file_is_accepted(ref, rollouts):
    command = [rollouts(200), "--samples", ref(**{"200": 0.5})]
    same = [*BOUNDS, "--samples-prompt", "prompt", "--samples-reward", "reward"]
    assert readings(*command, *same) == readings(*command)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--reward-low", "0", "--reward-high", "2"], "--reward-high 2: "),
        (["--reward-low", "-1"], "--reward-low -1: "),
        (["--samples-prompt", "question"], "--samples-prompt question: "),
        (["--samples-reward", "accuracy"], "--samples-reward accuracy: "),
        (["--samples-step", "0"], "--samples-step 0: "),
    ],
)
def test_what_contradicts_collects_file_is_refused(ref, rollouts, options, named):
    shown = invoke("monitor", rollouts(200), "--samples", ref(), *options)
    assert shown.exit_code == 2 and named in shown.output and "leave the option" in shown.output


@pytest.mark.parametrize("name", ["200", "checkpoint-200", "global_step_200", "run1.step00200"])
def test_a_score_is_of_the_step_at_the_end_of_its_name(ref, rollouts, name):
    shown = invoke("monitor", rollouts(200), "--samples", ref(**{name: 2.0}), "--loss-budget", ".5")
    assert shown.exit_code == 1 and "ALARM" in shown.stdout
    said = f"step 200: the SFT loss is that of the scores {name!r}" in shown.stderr
    assert said is (name != "200")


@pytest.mark.parametrize("name", ["final", "epoch-200", "v200", "v0.200"])
def test_scores_without_a_step_are_named(ref, rollouts, name):
    file = ref(**{name: 2.0, "100": 0.0})
    shown = invoke("monitor", rollouts(200), "--samples", file)
    assert shown.exit_code == 0
    assert f"the scores {name!r} are not used" in shown.stderr
    assert "--name STEP" in shown.stderr


def test_a_rise_is_called_a_rise(ref, rollouts):
    """The scores of the start policy itself: its loss is 3 nats, and has risen by none."""
    shown = invoke("monitor", rollouts(200), "--samples", ref(experts=True, **{"200": 0.0}))
    head, row = (
        [cell.strip() for cell in re.split("[┃│]", line)]
        for line in shown.stdout.splitlines()
        if re.match("[┃│]", line)
    )
    cells = dict(zip(head, row, strict=True))
    assert cells["SFT loss, rise"] == cells["on expert data, rise"] == "0"


def test_a_scored_step_without_rollouts_is_read_too(ref, rollouts):
    file = ref(**{"100": 0.1, "300": 2.0})
    found = readings(rollouts(200), "--samples", file, "--loss-budget", "0.5")
    assert list(found) == [100, 200, 300]
    assert found[300]["sft_loss_rise"]["value"] == pytest.approx(2.0)
    assert found[300]["reward"] is None and found[200]["sft_loss_rise"] is None
    assert found[300]["alarms"] and not found[100]["alarms"]


def test_scores_of_two_runs_are_told_apart_by_name(ref, rollouts):
    file = ref(**{"a-200": 2.0, "b-200": 0.1})
    command = [rollouts(200), "--samples", file]
    shown = invoke("monitor", *command)
    assert shown.exit_code == 2 and "'a-200' and 'b-200'" in shown.output
    assert "--scored a-200" in shown.output
    found = readings(*command, "--scored", "b-200")
    assert found[200]["sft_loss_rise"]["value"] == pytest.approx(0.1)
    shown = invoke("monitor", *command, "--scored", "c-200")
    assert shown.exit_code == 2 and "--scored c-200: " in shown.output


@pytest.mark.parametrize(
    ("scores", "options", "named"),
    [
        ({}, ["--loss-budget", "0.5"], "--loss-budget 0.5: no step has an SFT loss"),
        ({"final": 2.0}, ["--loss-budget", "0.5"], "but 'final'"),
        ({}, ["--max-overpayment", "2"], "--max-overpayment 2: no step has both"),
        ({"300": 2.0}, ["--max-overpayment", "2"], "scores of the steps 300, FILES rewards of 200"),
    ],
)
def test_an_alarm_that_nothing_could_raise_is_refused(ref, rollouts, scores, options, named):
    shown = invoke("monitor", rollouts(200), "--samples", ref(**scores), *options)
    assert shown.exit_code == 2 and named in shown.output, shown.output


def test_samples_of_ones_own_have_no_loss_to_alarm_of(tmp_path, samples, rollouts):
    path = own(tmp_path, samples)
    command = ["monitor", rollouts(200), "--samples", path, *BOUNDS]
    shown = invoke(*command, "--loss-budget", "0.5")
    assert shown.exit_code == 2 and "collect did not write it" in shown.output
    shown = invoke(*command, "--scored", "200")
    assert shown.exit_code == 2 and "--scored 200" in shown.output


def own(tmp_path, samples, prompt="prompt", reward="reward", **columns):
    rows = [
        {prompt: p, reward: given} | columns
        for p, given in zip(PROMPTS, samples.ref_rewards.tolist(), strict=True)
    ]
    path = tmp_path / "ref.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_columns_of_samples_are_named_by_options_of_their_own(tmp_path, samples, rollouts):
    command = [rollouts(200), "--samples", own(tmp_path, samples, "question", "accuracy"), *BOUNDS]
    for options in ([], ["--prompt", "question", "--reward", "accuracy"]):
        shown = invoke("monitor", *command, *options)
        assert shown.exit_code == 2, shown.output
    shown = invoke("monitor", *command)
    assert "as --samples-prompt question, --samples-reward accuracy" in " ".join(
        shown.output.split()
    )
    names = ["--samples-prompt", "question", "--samples-reward", "accuracy"]
    assert readings(*command, *names)[200]["reward"]["value"] == 0.5


def test_what_is_wrong_with_files_is_told_in_options_of_files(ref, tmp_path):
    (tmp_path / "200.jsonl").write_text('{"question": "a", "accuracy": 1}')
    shown = invoke("monitor", str(tmp_path / "200.jsonl"), "--samples", ref())
    assert shown.exit_code == 2 and "name that of the prompt, as --prompt question" in shown.output


@pytest.mark.parametrize("scored", [{}, {"200": 0.5}])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "200.jsonl, row 1, score=3.0: outside --reward-low 0.0 --reward-high 1.0 of the"),
        (["--reward", "score", "--reward", "kind"], "row 1, score + kind=4.0: outside --rew"),
    ],
)
def test_another_reward_than_the_one_collected_is_named(ref, rollouts, scored, options, told):
    file = ref(**scored)
    shown = invoke("monitor", rollouts(200, 3.0, kind=1.0), "--samples", file, *options)
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and told in said, shown.output
    assert "name the column of the reward that these have, as --reward" in said
    assert "or make them again" in said


def test_rewards_outside_the_bounds_are_seen_whatever_their_mean(tmp_path, ref):
    """One row for each response; the average of each prompt lies inside."""
    rows = [{"input": p, "score": score} for p in PROMPTS for score in (1.0, -1.0, 3.0, -1.0)]
    (tmp_path / "200.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = invoke("monitor", str(tmp_path / "200.jsonl"), "--samples", ref())
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and "200.jsonl, row 2, score=-1.0: outside" in said


@pytest.fixture
def weighted(tmp_path):
    """TRL's options with weights of two rewards, and samples of one's own in the bounds of their sum."""
    (tmp_path / "trl.json").write_text('{"beta": 0.05, "reward_weights": [2.0, 0.5]}')
    rows = [{"prompt": p, "reward": [0, 2.5, 0.5, 2.0]} for p in PROMPTS]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ["--samples", str(tmp_path / "own.jsonl"), "--reward-low", "0", "--reward-high", "2.5"]


OF_TRL = ["--recipe", "trl.json", "--trainer", "rloo"]
BOTH = ["--reward", "acc", "--reward", "fmt"]


@pytest.mark.parametrize(
    ("options", "reward"),
    [
        ([*BOTH], 1.6),
        ([*BOTH, *OF_TRL], 2.3),
        ([*BOTH, "--reward-weights", "2,0.5"], 2.3),
        (["--reward", "fmt", "--reward", "acc", *OF_TRL], 1.7),
        ([*BOTH, *OF_TRL, "--reward-weights", "1,0"], 1.0),
        (["--reward", "acc", *OF_TRL, "--reward-weights", "1"], 1.0),
    ],
)
def test_rewards_are_summed_with_the_trainers_weights(
    weighted, rollouts, tmp_path, monkeypatch, options, reward
):
    monkeypatch.chdir(tmp_path)
    command = ["monitor", rollouts(200, acc=1.0, fmt=0.6), *weighted, *options]
    shown = invoke(*command, "--json")
    assert shown.exit_code == 0, shown.output
    (reading,) = json.loads(shown.stdout)["readings"]
    assert reading["reward"]["value"] == pytest.approx(reward)


def test_how_columns_are_weighted_is_printed(weighted, rollouts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["monitor", rollouts(200, acc=1.0, fmt=0.6), *weighted, *BOTH, *OF_TRL]
    assert "the reward: 2 * acc + 0.5 * fmt" in invoke(*command).stdout
    found = json.loads(invoke(*command, "--json").stdout)
    assert (found["reward_columns"], found["reward_weights"]) == (["acc", "fmt"], [2.0, 0.5])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--recipe trl.json, reward_weights=[2.0, 0.5]: 2 weights, and 0 columns named as --"),
        (["--reward", "acc"], "2 weights, and 1 column named as --reward; name one for each"),
        ([*BOTH, "--reward-weights", "2"], "--reward-weights 2: 1 weight, and 2 columns"),
        ([*BOTH, "--reward-weights", "2;1"], "--reward-weights 2;1: give a number for each"),
        *(
            (
                [*BOTH, "--reward-weights", given],
                f"--reward-weights {given}: give finite numbers, at",
            )
            for given in ("nan,1", "2,inf", "1e301,1")
        ),
    ],
)
def test_weights_without_their_columns_are_refused(
    weighted, rollouts, tmp_path, monkeypatch, options, named
):
    monkeypatch.chdir(tmp_path)
    shown = invoke("monitor", rollouts(200, acc=1.0, fmt=0.6), *weighted, *OF_TRL, *options)
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and named in said, shown.output


def test_weights_that_a_recipes_fields_do_not_say_are_asked_for(weighted, rollouts, tmp_path):
    fields = {"advantage": "leave-one-out", "leash": "k1-in-reward", "beta": 0.05}
    fields["outside"] = [["reward_weights", "rewards are summed with weights"]]
    (tmp_path / "fields.json").write_text(json.dumps(fields))
    command = ["monitor", rollouts(200, acc=1.0, fmt=0.6), *weighted, *BOTH]
    shown = invoke(*command, "--recipe", str(tmp_path / "fields.json"))
    assert shown.exit_code == 2 and "give --reward-weights" in " ".join(shown.output.split())


def looks(found):
    """The numbers of the looks of readings, by step."""
    return {
        step: int((reading["sft_loss_rise"] or reading["reward"])["how"].rpartition("look ")[2])
        for step, reading in found.items()
    }


def test_a_look_has_its_number_whichever_call_makes_it(ref, rollouts):
    """Checkpoints scored one at a time, an earlier step last, get the numbers that one call gives them later."""
    calls = []
    scores = {}
    for step in (100, 200, 50):
        scores[str(step)] = 0.1
        file = ref(**scores)
        found = readings(
            rollouts(step), rollouts(step + 1), "--samples", file, "--scored", f"{step}"
        )
        calls += looks(found).items()
    files = [rollouts(step) for step in (50, 51, 100, 101, 200, 201)]
    assert looks(readings(*files, "--samples", file)) == dict(calls)
    numbers = [number for _, number in calls]
    assert len(numbers) == len(set(numbers)) == 6


def test_experts_scores_give_their_rise(ref, rollouts):
    file = ref(experts=True, **{"200": 0.5})
    found = readings(rollouts(200), "--samples", file)
    assert found[200]["expert_loss_rise"] == pytest.approx(-0.25)
    shown = invoke("monitor", rollouts(200), "--samples", file)
    assert "on expert data" in shown.stdout and "-0.25" in shown.stdout


def test_the_table_has_the_floor_and_what_was_overpaid_in_nats(ref, rollouts, tmp_path):
    command = ["monitor", rollouts(200), "--samples", ref(**{"200": 0.5})]
    shown = invoke(*command, "--html", str(tmp_path / "run.html"))
    assert shown.exit_code == 0, shown.output
    (reading,) = readings(*command[1:]).values()
    page = (tmp_path / "run.html").read_text()
    for text in (shown.stdout, page):
        for title in ("floor", "overpaid, nats"):
            assert title in text
        for name in ("price_floor", "overpayment_nats"):
            assert f"{reading[name]:.4g}" in text
        assert "on expert data" not in text


def test_a_score_that_is_no_number_is_named(ref, rollouts):
    file = ref(**{"200": np.inf})
    shown = invoke("monitor", rollouts(200), "--samples", file)
    assert shown.exit_code == 2 and "the scores '200'" in shown.output and "log_p" in shown.output
