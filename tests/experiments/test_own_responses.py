"""SFT on ref's own responses in the sampled protocol: weights, what they end at, and runs."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import qwen_validate
import sampled_recipes
from rich.progress import Progress
from run_helpers import lines_of, start_and_kill
from scipy import stats
from sweeps.grid import trials
from sweeps.summary import _common_task
from validate.checksums import sealed
from validate.configuration import configuration, from_json
from validate.errors import InputError, RunFolderError
from validate.models import model_of_run
from validate.options import parse_arguments
from validate.orders import STAGES
from validate.run_folder import RunFolder
from validate.sampled import drawing, run
from validate.sampled.drawing import drawn_responses
from validate.sampled.ends import end_of
from validate.sampled.own_responses import trained_on
from validate.sampled.report import _policies
from validate.sampled.rewards import load_reward
from validate.sampled.sentences import load_sentences
from validate.sampled.story import what_it_does_not_show
from validate.sampled.task import FORMAL, make_task
from validate.sampled.training import COMPLETE

from nondecoupling import bounds
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tokens import response_tokens

SMALL = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 40, "responses": 4}
SMALL |= {"sft-steps": 60, "rl-steps": 8, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
WORDS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
WORDS += ["--protocol", "sampled", "--checkpoint-every", "4", "--reward", "combined"]
PROCESSES = Processes()
REWARDS = np.array([[0.0, 0.5, 1.0, 0.5], [0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])


def sampled(order="weighted-sft", **asked):
    return configuration({"protocol": "sampled", "order": order, **asked})


@pytest.mark.parametrize("beta", [0.02, 0.2, 5.0])
@pytest.mark.parametrize("weights", ["frontier", "exponential"])
def test_the_weights_of_a_group_average_one(weights, beta):
    found = trained_on(sampled(weights=weights, beta=beta), REWARDS).weights
    np.testing.assert_allclose(found.mean(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found[2], 1, rtol=1e-12)
    if weights == "frontier":
        np.testing.assert_allclose(np.ptp(beta / found + REWARDS, axis=1), 0, atol=1e-9 * beta)
    else:
        np.testing.assert_allclose(np.ptp(np.log(found) - REWARDS / beta, axis=1), 0, atol=1e-9)


def test_frontier_weights_solved_by_hand():
    """Rewards 0 and 1, half each, at beta 3/4: mu = 3/2, so 1/2 and 3/2."""
    found = trained_on(sampled(beta=0.75), np.array([[0.0, 1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(found.weights, [[0.5, 1.5, 1.5, 0.5]], rtol=1e-12)
    np.testing.assert_array_equal(found.places, [[0, 1, 2, 3]])


def test_the_best_of_each_n_is_taken_and_of_ties_the_first():
    config = sampled("best-of-n", best_of=2, generations=4)
    places, weights = trained_on(config, REWARDS)
    np.testing.assert_array_equal(places, [[1, 2], [0, 3], [0, 2]])
    assert (weights == 1).all()
    assert trained_on(replace(config, best_of=4), REWARDS).places.tolist() == [[2], [3], [0]]


def expected_reward_of_groups(config, ref, reward, size):
    """Of the law that SFT is trained on in expectation: over all groups of this size, by how often each comes."""
    counts = [(i, j, size - i - j) for i in range(size + 1) for j in range(size + 1 - i)]
    chances = stats.multinomial.pmf(counts, size, ref)
    assert chances.sum() == pytest.approx(1, rel=1e-9)
    groups = np.array([np.repeat(reward, count) for count in counts])
    return float(chances @ (trained_on(config, groups).weights * groups).mean(axis=1))


@pytest.mark.parametrize("levels", [(0.0, 0.0, 1.0), (0.0, 0.4, 1.0)])
@pytest.mark.parametrize("weights", ["frontier", "exponential"])
def test_small_groups_are_trained_towards_less_reward(weights, levels):
    config, ref, reward = sampled(weights=weights, beta=0.4), np.array([0.5, 0.3, 0.2]), levels
    land = SimpleNamespace(log_ref=np.log(ref), reward=np.array(reward))
    end = float(np.exp(end_of(config, land).log_p) @ reward)
    short = [
        end - expected_reward_of_groups(config, ref, np.array(reward), size) for size in (2, 4, 8)
    ]
    assert short[0] > short[1] > short[2] > 0.01


def test_what_frontier_weights_lose_in_large_groups():
    """beta (E w^3 - (E w^2)^2)/(E w^2)^3 of the reward over n, not negative by Cauchy and Schwarz, as E w = 1."""
    config, ref, reward = sampled(beta=2.0), np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.4, 1.0])
    weights = bounds.frontier_weights(np.log(ref), reward, config.beta)
    second, third = (float(ref @ weights**k) for k in (2, 3))
    end = float((ref * weights) @ reward)
    lost = [
        size * (end - expected_reward_of_groups(config, ref, reward, size)) for size in (20, 40)
    ]
    limit = 2 * lost[1] - lost[0]  # without what falls as 1/n^2
    assert limit == pytest.approx(config.beta * (third - second**2) / second**3, rel=2e-3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rl": "rloo"}, "--rl is 'rloo', .* --order weighted-sft trains none"),
        ({"order": "best-of-n", "best_of": 3}, "--best-of is 3, .* divide --generations 8"),
        ({"order": "replay"}, "it has .*joint, best-of-n, weighted-sft, alternate and all"),
        ({"order": "alternate", "rl": "grpo"}, "--rl is 'grpo', .*RL with a leash; .*alternate"),
        ({"order": "alternate", "cycles": 200}, "--cycles is 200, .* less than 3 of 300"),
        ({"cycles": 3}, "--cycles is 3, .*about alternation; .*weighted-sft trains none"),
    ],
)
def test_what_makes_no_sense_in_samples_is_refused(asked, words):
    with pytest.raises(InputError, match=words):
        sampled(**{"order": "weighted-sft", **asked})


def test_in_samples_it_has_the_steps_and_the_rate_of_rl():
    config = sampled(weights="exponential")
    assert from_json(json.loads(json.dumps(config.as_json()))) == config
    for name in ("weighted-sft", "best-of-n"):
        stage = STAGES[name]
        assert (stage.steps(config), stage.rate(config)) == (config.rl_steps, config.rl_rate)
        listed = replace(configuration({"order": name}), rl_steps=7)
        assert (stage.steps(listed), stage.rate(listed)) == (listed.sft_steps, listed.sft_rate)


def test_a_sweep_has_a_trial_per_beta():
    shared = ["--protocol", "sampled", "--weights", "exponential"]
    axes = {"order": ["weighted-sft"], "beta": [0.1, 0.2]}
    found = trials(axes, shared, parse_arguments(shared, "").asked)
    assert [trial.name for trial in found] == [
        "order=weighted-sft,beta=0.1",
        "order=weighted-sft,beta=0.2",
    ]
    assert all(trial.options[-4:] == shared for trial in found)


def test_a_sweep_gives_an_option_to_the_orders_that_have_it():
    shared = ["--protocol", "sampled", "--best-of=2", "--rl-steps", "9", "--rl", "grpo"]
    asked = parse_arguments(shared, "").asked
    found = {
        trial.values[0][1]: trial.options
        for trial in trials({"order": ["sft-rl", "weighted-sft", "best-of-n"]}, shared, asked)
    }
    common = {"protocol": "sampled", "rl_steps": 9}
    given = {order: dict(parse_arguments(words, "").asked) for order, words in found.items()}
    assert given["sft-rl"] == {"order": "sft-rl", "rl": "grpo", **common}
    assert given["weighted-sft"] == {"order": "weighted-sft", **common}
    assert given["best-of-n"] == {"order": "best-of-n", "best_of": 2, **common}
    for order in found:
        configuration(given[order])
    for axes in ({"order": ["sft-rl", "joint"]}, {"beta": [0.1]}):
        with pytest.raises(InputError, match="--best-of is 2"):
            trials(axes, shared, asked)


def test_curves_of_a_sweep_need_no_option_of_single_orders():
    shared = {"best_of": 2, "cycles": 20}
    tiny = {"model": "tiny-qwen3", "reward": "right"}
    assert _common_task([tiny], shared).reward.shape[0] == 32


def test_the_table_of_policies_says_what_groups_train():
    """Only the best of n is drawn from its end; groups make an average of ends."""
    best, weighted = (
        _policies(sampled(order, generations=4))[-1]["training"]
        for order in ("best-of-n", "weighted-sft")
    )
    assert best.startswith("minimises CE(its predicted end, p)")
    assert weighted.startswith("minimises CE(q, p)") and "groups of 4" in weighted
    assert _policies(sampled("sft-rl"))[-1]["training"] == "maximises J(p) - beta KL(p||ref)"


def test_what_the_end_is_not():
    def lines(order):
        shown = what_it_does_not_show(SimpleNamespace(config=sampled(order, generations=4)))
        return [line for line in shown if "predicted end" in line]

    (best,), (weighted,) = lines("best-of-n"), lines("weighted-sft")
    assert "groups" not in best and best.endswith(
        "SFT was trained on ref's responses to other prompts."
    )
    assert "large groups" in weighted and weighted.endswith("to other prompts, in groups of 4.")
    assert not lines("sft-rl")


class Counted:
    """Answers every prompt by its number among all that were drawn; ``stop`` is how many batches it draws."""

    def __init__(self, monkeypatch, stop=100):
        self.prompts, self.seeds, self.stop = [], [], stop
        monkeypatch.setattr(drawing, "draw", self)
        monkeypatch.setattr(drawing, "tokens_of_prompts", lambda tokenizer, texts: texts)
        monkeypatch.setattr(drawing, "ROWS_AT_ONCE", 4)

    def __call__(self, language_model, prompts, max_tokens, seed, rows_at_once):
        if len(self.seeds) == self.stop:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        self.prompts += prompts
        return [[5, len(self.prompts) - len(prompts) + index] for index in range(len(prompts))]


def draw_ten(place, processes=PROCESSES):
    task = make_task(load_sentences("grammar", 240), 200, 5, 0)
    language_model = SimpleNamespace(tokenizer=None)
    questions = task.rl_draws("rl", 10)
    return drawn_responses(
        place, processes, language_model, questions, 3, 7, None, lambda done: None
    )


def test_what_a_stage_is_trained_on_is_drawn_once(tmp_path, monkeypatch):
    place = tmp_path / "weighted-sft" / "responses.jsonl"
    Counted(monkeypatch)
    whole = draw_ten(tmp_path / "whole" / "responses.jsonl")
    drawn = Counted(monkeypatch, stop=2)
    with pytest.raises(KeyboardInterrupt):
        draw_ten(place)
    assert len(drawn.prompts) == 8
    rest = Counted(monkeypatch)
    found = draw_ten(place)
    assert len(rest.prompts) == 2 and len(set(drawn.seeds + rest.seeds)) == 3
    assert [one.tokens for one in found[:8]] == [one.tokens for one in whole[:8]]
    Counted(monkeypatch, stop=0)
    assert draw_ten(place) == found


def test_every_process_has_what_the_first_one_read(tmp_path, monkeypatch):
    place = tmp_path / "weighted-sft" / "responses.jsonl"
    Counted(monkeypatch)
    written = draw_ten(place)
    Counted(monkeypatch, stop=0)
    second = SimpleNamespace(count=2, rank=1, is_first=False, from_first=lambda mine: written)
    assert draw_ten(tmp_path / "not there", second) == written


def test_processes_draw_shares_of_a_line(tmp_path, monkeypatch):
    """Every second question, each with seeds of its own."""
    seeds = []
    for rank in (0, 1):
        mine = []
        drawn = Counted(monkeypatch)
        processes = SimpleNamespace(
            count=2,
            rank=rank,
            is_first=rank == 0,
            from_first=lambda found: found or [],
            share=lambda some, rank=rank: some[rank::2],
            together_list=lambda rows, mine=mine: (
                mine.extend(rows) or [row for row in rows for _ in "12"]
            ),
        )
        assert len(draw_ten(tmp_path / str(rank) / "responses.jsonl", processes)) == 10
        assert len(mine) == 5
        seeds += drawn.seeds
    assert len(set(seeds)) == 4


def test_damaged_or_lost_responses_name_the_stage_to_train_again(tmp_path, monkeypatch):
    place = tmp_path / "weighted-sft" / "responses.jsonl"
    Counted(monkeypatch)
    draw_ten(place)
    sound = place.read_text()
    place.write_text(sound.replace("[5, 1]", "[5, 2]", 1))
    with pytest.raises(RunFolderError, match=r"line 1 is damaged .*--restart-from weighted-sft"):
        draw_ten(place)
    place.write_text(sound.splitlines(keepends=True)[0])
    checkpoint = place.parent / "checkpoint-4"
    checkpoint.mkdir()
    about = sealed(COMPLETE, {"metrics_bytes": 0, "files": {}})
    (checkpoint / COMPLETE).write_text(json.dumps(about))
    with pytest.raises(RunFolderError, match=r"has 4 of 10 responses, .*--restart-from weighted"):
        draw_ten(place)


@pytest.mark.parametrize("order", ["joint", "cycle"])
def test_data_of_ones_own_are_kept_too(tmp_path, monkeypatch, order):
    config = sampled(order, data_law="self")
    stage = STAGES[{"cycle": "sft-again"}.get(order, order)]
    task = make_task(load_sentences("grammar", 240), 200, 5, 0)
    language_model = SimpleNamespace(tokenizer=None, restore=lambda state: None)
    policies = SimpleNamespace(language_model=language_model, state=lambda name: None)
    session = SimpleNamespace(folder=RunFolder(tmp_path), processes=PROCESSES)
    inputs, questions = SimpleNamespace(task=task), task.rl_draws("rl", 6)
    stages = run._Stages(config, session, inputs, policies, Progress())
    Counted(monkeypatch)
    found = stages._responses(stage, questions)
    Counted(monkeypatch, stop=0)
    assert stages._responses(stage, questions) == found
    assert (tmp_path / "training" / stage.name / "responses.jsonl").exists()


def rows_of(tmp_path, monkeypatch, config):
    """The rows of a stage where ref answers right, first in its format, by the label alone, wrong, in the format."""
    task = make_task(load_sentences("grammar", 240), 200, 5, 0)
    language_model = model_of_run(config, task.texts)
    tokenizer, questions = language_model.tokenizer, task.rl_draws("rl", 4)
    said = []
    for question in questions:
        wrong = {"acceptable": "unacceptable"}.get(question.label, "acceptable")
        said += [f" {FORMAL}{question.label}", f" {question.label}", f" {wrong}"]
        said.append(f" {FORMAL}{question.label}")
    drawn = [response_tokens(tokenizer, text) for text in said]

    def draw(language_model, prompts, max_tokens, seed, rows_at_once):
        each = tokenizer([question.text for question in questions])["input_ids"]
        assert prompts == [prompt for prompt in each for _ in range(4)]
        return drawn

    monkeypatch.setattr(drawing, "draw", draw)
    inputs = SimpleNamespace(task=task, reward=load_reward("combined"))
    policies = SimpleNamespace(
        language_model=language_model, state=lambda name: language_model.state()
    )
    session = SimpleNamespace(folder=RunFolder(tmp_path), processes=PROCESSES)
    stages = run._Stages(config, session, inputs, policies, Progress())
    rows = stages._own_responses(STAGES[config.order])
    texts = [
        tokenizer.decode([t for t in labels if t >= 0], skip_special_tokens=True)
        for labels in rows["labels"]
    ]
    asked = tokenizer([question.text for question in questions])["input_ids"]
    for index, row in enumerate(rows["input_ids"]):
        prompt = asked[index * len(asked) // len(rows)]
        assert row[: len(prompt)] == prompt
    return questions, texts, rows["weight"]


def test_every_response_is_a_row_with_its_weight(tmp_path, monkeypatch):
    config = sampled(beta=0.3, rl_steps=2, rl_prompts=2, generations=4)
    questions, texts, weights = rows_of(tmp_path, monkeypatch, config)
    group = bounds.frontier_weights(np.log(np.full(4, 0.25)), np.array([1.0, 0.5, 0.0, 1.0]), 0.3)
    np.testing.assert_allclose(weights, np.tile(group, 4))
    assert [q.label in text for q, text in zip(questions, texts[::4], strict=True)] == [True] * 4
    assert all(FORMAL.strip() in text for text in (*texts[::4], *texts[3::4]))


def test_best_of_two_has_half_of_the_rows(tmp_path, monkeypatch):
    config = sampled("best-of-n", best_of=2, rl_steps=2, rl_prompts=2, generations=4)
    questions, texts, weights = rows_of(tmp_path, monkeypatch, config)
    assert weights == [1.0] * 8
    labels = [question.label for question in questions for _ in range(2)]
    assert [text.split()[-1] for text in texts] == labels
    assert all(FORMAL.strip() in text for text in texts)


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "frontier"
    given = [*WORDS, "--order", "weighted-sft", "--beta", "0.3", "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    return folder


@pytest.mark.slow  # trains two stages
def test_a_run_reports_what_is_true_of_any_policy_and_where_it_should_end(weighted):
    report = json.loads((weighted / "report.json").read_text())
    assert {row["policy"] for row in report["rows"]} == {"weighted-sft"}
    assert {row["statement"] for row in report["rows"]} >= {"F3", "F4", "S7", "S9", "J2", "R4"}
    (change,) = report["changes"]
    assert change["statement"] == "T9" and change["stage"] == "weighted-sft"
    said = {line["quantity"]: line for line in report["predictions"]}
    assert set(said) == {"SFT loss change", "reward", "KL(ref||p)"}
    assert said["reward"]["predicted"] == change["predicted_J"]
    reached = said["reward"]["observed"]
    assert 0 <= reached["low"] <= change["J"] <= reached["high"] <= 1
    outcome = sampled_recipes.outcome_of(RunFolder(weighted))
    assert change["predicted_J"] == outcome.reward_at_end > outcome.reward_before.value
    logged = [line for line in lines_of(weighted / "metrics.jsonl") if line["stage"] != "sft"]
    assert [line["step"] for line in logged] == [4, 8]
    page = (weighted / "report.html").read_text()
    assert "mu - r" in page
    assert any("other prompts, in groups of 4" in line for line in report["not_shown"])
    assert "training prompts from grammar, 40 evaluation prompts from grammar," in page
    assert "CE(q, p)" in page and "CE(q, p)" in json.dumps(report["policies"])
    planned = {line["quantity"] for line in report["plans"]["sft"]}
    assert "rise of the SFT loss by SFT on weighted responses" in planned
    assert not [quantity for quantity in planned if "by RL" in quantity or "after RL" in quantity]


@pytest.mark.slow  # trains two stages, and kills one of them
def test_killed_after_a_checkpoint_and_resumed_gives_the_same_bits(weighted, tmp_path, script):
    folder, given = tmp_path / "killed", [*WORDS, "--order", "weighted-sft", "--beta", "0.3"]
    words = '"stage": "weighted-sft", "step": 4'
    start_and_kill(script, given, folder, "metrics.jsonl", words, resume=False)
    assert qwen_validate.main([*given, "--out", str(folder), "--resume"]) == 0
    for name in ("metrics.jsonl", "report.json", "measurements/weighted-sft.jsonl"):
        assert (folder / name).read_bytes() == (weighted / name).read_bytes(), name


@pytest.mark.slow  # trains two stages
def test_the_table_of_recipes_has_them(weighted, tmp_path, capsys):
    given = [*WORDS, "--order", "best-of-n", "--best-of", "2"]
    assert qwen_validate.main([*given, "--out", str(tmp_path / "best")]) == 0
    capsys.readouterr()
    assert sampled_recipes.main([str(weighted), str(tmp_path)]) == 0
    *_, first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("| best of 2 | - | 1 |")
    assert second.startswith("| weighted-sft, frontier | 0.3 | 1 |")
    report = json.loads((tmp_path / "best" / "report.json").read_text())
    most = [line for line in report["predictions"] if "n - 1 - log n" in line["quantity"]]
    assert most[0]["predicted"] == pytest.approx(1 - np.log(2)) and most[0]["statement"] == "T7"
