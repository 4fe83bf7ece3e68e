"""Prompts, splits and rewards: what is drawn is what is said, and bad rewards are named."""

import math
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import ANY

import numpy as np
import pytest
from validate.configuration import configuration
from validate.errors import RunFolderError
from validate.models import model_of_run
from validate.run_folder import RunFolder
from validate.sampled.grammar import grammar_sentences
from validate.sampled.inputs import inputs_of
from validate.sampled.lengths import check_lengths
from validate.sampled.rewards import BUILT_IN, CheckedReward, RewardError, load_reward
from validate.sampled.sentence import Sentence
from validate.sampled.sentences import DataError, load_sentences
from validate.sampled.story import what_it_does_not_show
from validate.sampled.task import make_task

SENTENCES = load_sentences("grammar")


@pytest.fixture(scope="module")
def task():
    return make_task(SENTENCES, 1600, 400, 0)


def test_training_and_held_out_prompts_are_disjoint(task):
    train, held_out = ({q.text for q in some} for some in (task.train, task.held_out))
    assert len(train) == 1600 and len(held_out) == len(SENTENCES) - 1600
    assert not train & held_out
    assert {q.text for q in task.evaluation} <= held_out


def test_the_same_seed_gives_the_same_task_and_another_seed_another():
    first, again, other = (make_task(SENTENCES, 200, 50, seed) for seed in (1, 1, 2))
    assert first == again
    assert {q.text for q in first.train} != {q.text for q in other.train}
    assert first.rl_draws("rl", 20) == again.rl_draws("rl", 20)
    assert first.rl_draws("rl", 20) != first.rl_draws("joint", 20)


def test_the_data_law_has_spread_and_experts_follow_it(task):
    law = np.exp(task.log_d)
    np.testing.assert_allclose(law.sum(axis=1), 1, atol=1e-12)
    assert law.min() > 0.005 and law.max() < 0.6
    question = task.train[0]
    drawn = task.expert_draws("sft", [question] * 4000)
    share = [drawn.count(response) / 4000 for response in question.responses]
    np.testing.assert_allclose(share, question.law, atol=4 * 0.5 / np.sqrt(4000))


def test_the_strict_reward_varies_on_the_data(task):
    """Otherwise S2 would be vacuous."""
    question = task.train[0]
    count = len(question.responses)
    values = load_reward("strict")(
        [question.text] * count, list(question.responses), label=[question.label] * count
    )
    assert values == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("completion", "strict", "last"),
    [
        (" Final answer: acceptable", 1, 1),
        (" Final answer: unacceptable", 0, 0),
        (" final answer: acceptable", 0, 1),
        (" Final answer: acceptable.", 0, 1),
        (" I first thought unacceptable, but it is acceptable", 0, 1),
        (" acceptable or unacceptable", 0, 0),
        (" Acceptable!", 0, 1),
        (" it is unacceptably good", 0, 0),
        ("", 0, 0),
    ],
)
def test_built_in_rewards(completion, strict, last):
    found = [f([completion], ["acceptable"])[0] for f in BUILT_IN.values()]
    assert found == [strict, last, (strict + last) / 2]


def returning(values, **attributes):
    def function(prompts, completions, **columns):
        return values

    for name, value in attributes.items():
        setattr(function, name, value)
    return CheckedReward("mine", function)


@pytest.mark.parametrize(
    ("values", "attributes", "words"),
    [
        ([1.0], {}, "returned 1 values for 2 completions"),
        ([1.0, None], {}, "return one number per completion"),
        (
            [1.0, float("nan")],
            {},
            "reward mine is nan for the response 'b' to row 2: return a finite number",
        ),
        ([float("inf"), 0.0], {}, "is inf for the response 'a' to row 1: return a finite number"),
        ([0.0, 2.0], {}, r"is 2.0 .* declare what it can return, function.bounds = \(low, high\)"),
        ([0.0, 0.5], {"binary": True}, "and not function.binary"),
        (3.0, {}, "return one number per completion"),
    ],
)
def test_bad_rewards_name_the_response(values, attributes, words):
    with pytest.raises(RewardError, match=words):
        returning(values, **attributes)(["x", "y"], ["a", "b"], place=["row 1", "row 2"])


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, math.inf), 1, ("a", "b"), (1.0,)])
def test_bounds_must_be_two_finite_numbers(bounds):
    with pytest.raises(RewardError, match="two finite numbers"):
        returning([0.0], bounds=bounds)


def test_a_reward_that_fails_is_named_with_what_it_was_given():
    def failing(completions, **columns):
        return [1 / (len(text) - 1) for text in completions]

    with pytest.raises(
        RewardError, match=r"mine failed with ZeroDivisionError: .* row 1: 'a'"
    ) as caught:
        CheckedReward("mine", failing)(["x", "y"], ["a", "b"], place=["row 1", "row 2"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_module_that_does_not_import_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_reward.py").write_text("def f(:\n")
    with pytest.raises(RewardError, match=r"cannot import 'broken_reward' \(SyntaxError"):
        load_reward("broken_reward:f")


def test_inputs_that_changed_while_a_run_was_stopped_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    data, module = tmp_path / "data.tsv", tmp_path / "changing_reward.py"
    rows = [f"s\t{s.acceptable:d}\t\t{s.text}\n" for s in grammar_sentences()[:400]]
    data.write_text("".join(rows))
    module.write_text("def f(completions, **columns):\n    return [0.0] * len(completions)\n")
    asked = {"data": str(data), "reward": "changing_reward:f", "train_prompts": 200}
    config = configuration({"protocol": "sampled", "pilot_prompts": 5, "eval_prompts": 5, **asked})
    folder = RunFolder(tmp_path / "run")
    begun = inputs_of(config, folder)
    folder.path.mkdir()
    folder.record_inputs(begun.digests)
    assert inputs_of(config, folder) == replace(begun, reward=ANY)
    data.write_text("".join([*rows, "s\t1\t\tOne more sentence is here.\n"]))
    with pytest.raises(RunFolderError, match=r"--data .*data.tsv is not what it was"):
        inputs_of(config, folder)
    data.write_text("".join(rows))
    module.write_text(module.read_text().replace("0.0", "1.0"))
    with pytest.raises(RunFolderError, match="--reward changing_reward:f is not what it was"):
        inputs_of(config, folder)


def test_held_out_prompts_may_come_from_a_file_of_their_own(tmp_path):
    def written(name, first, count):
        place = tmp_path / name
        lines = (f"s\t{i % 2}\t\tThis is sentence {i}.\n" for i in range(first, first + count))
        place.write_text("".join(lines))
        return str(place)

    train, dev = written("train.tsv", 0, 40), written("dev.tsv", 35, 20)
    asked = {"protocol": "sampled", "data": train, "eval_data": dev, "train_prompts": 40}
    config = configuration(asked)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    found = inputs_of(config, folder)
    folder.record_inputs(found.digests)
    numbers = [
        {int(q.text.split("sentence ")[1].split(".")[0]) for q in some}
        for some in (found.task.train, found.task.held_out, found.task.evaluation)
    ]
    assert numbers[0] == set(range(40))
    assert numbers[1] == set(range(40, 55))  # 35 to 39 are trained on
    assert numbers[2] == numbers[1]
    written("dev.tsv", 36, 20)
    with pytest.raises(RunFolderError, match=r"--eval-data .*dev.tsv is not what it was"):
        inputs_of(config, folder)
    written("dev.tsv", 5, 20)
    with pytest.raises(DataError, match="--eval-data has 20 sentences, all of which are among"):
        inputs_of(config, RunFolder(tmp_path / "other"))
    of_grammar = configuration({**asked, "eval_data": "grammar"})
    assert set(inputs_of(of_grammar, RunFolder(tmp_path / "other")).digests) == {"data"}
    assert config.held_out_data == dev and replace(config, eval_data="").held_out_data == train
    shown = what_it_does_not_show(SimpleNamespace(config=config))
    assert f"the held-out prompts of {dev!r}" in shown[0]
    with pytest.raises(DataError, match="--train-prompts is 41, but there are only 40 sentences"):
        inputs_of(configuration({**asked, "train_prompts": 41}), RunFolder(tmp_path / "other"))


def test_one_label_only_is_an_error():
    some = [Sentence(f"word {i}.", True, "s", f"line {i}") for i in range(50)]
    with pytest.raises(DataError, match="all have the label 'acceptable'"):
        make_task(some, 30, 10, 0)


LONG = "It is " + "very " * 50 + "cold{}."


def test_the_default_model_has_room_for_the_longest_sentence():
    """As CoLA has them, of 56 tokens."""
    some = [Sentence(LONG.format(i), i % 2 == 0, "s", f"line {i}") for i in range(20)]
    task = make_task(some, 10, 5, 0)
    model = model_of_run(configuration({"protocol": "sampled"}), task.texts)
    assert model.context == 192
    check_lengths(model, [*task.train, *task.held_out], 10)


def test_all_prompts_that_are_too_long_are_one_message():
    some = [Sentence(LONG.format(i), i % 2 == 0, "s", f"line {i}") for i in range(20)]
    task = make_task(some, 10, 5, 0)
    model = model_of_run(configuration({"protocol": "sampled"}), task.texts)
    with pytest.raises(DataError, match="20 prompts or responses are too long") as caught:
        check_lengths(model, [*task.train, *task.held_out], 150)
    message = str(caught.value)
    assert message.count("more than the model's context of 192") == 5
