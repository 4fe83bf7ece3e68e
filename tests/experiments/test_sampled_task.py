"""Prompts, splits and rewards: what is drawn is what is said, and bad rewards are named."""

import numpy as np
import pytest
from validate.sampled.rewards import BUILT_IN, Reward, RewardError, load_reward
from validate.sampled.sentences import DataError, Sentence, load_sentences
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
    return Reward("mine", function)


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


def test_bounds_must_be_two_finite_numbers():
    with pytest.raises(RewardError, match="two finite numbers"):
        returning([0.0], bounds=(1.0, 1.0))


def test_one_label_only_is_an_error():
    some = [Sentence(f"word {i}.", True, "s", f"line {i}") for i in range(50)]
    with pytest.raises(DataError, match="all have the label 'acceptable'"):
        make_task(some, 30, 10, 0)
