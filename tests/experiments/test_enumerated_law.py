"""The law over the trie equals the model's own probabilities, and the guards of the law can fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from validate.enumerated.facts import MAXIMUM_PROMPTS, embedded_task, vocabulary_texts
from validate.enumerated.law import Policy, choose_layout, law_one_at_a_time
from validate.enumerated.tolerances import enumeration_tolerance, mass_error, mass_tolerance
from validate.enumerated.tries import LAYOUTS, ONE_ROW_EACH, SHARED_PREFIXES, encode
from validate.models import ModelError, load_model
from validate.presets import TINY

FLOAT32 = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def tiny():
    return load_model(TINY, 0, vocabulary_texts(), "full")


def policy_of(language_model, task, layout=SHARED_PREFIXES):
    encoded = [encode(language_model.tokenizer, prompt) for prompt in task.prompts]
    return Policy(language_model, encoded, layout)


def law_of(language_model, task, layout=SHARED_PREFIXES):
    return policy_of(language_model, task, layout).measured()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_law_equals_the_models_own_logits(tiny, layout):
    task = embedded_task(6)
    law = law_of(tiny, task, layout)
    for prompt, row in zip(task.prompts, law, strict=True):
        plain = law_one_at_a_time(tiny, prompt)
        assert np.abs(row[:-1] - plain).max() <= enumeration_tolerance(row, 2, FLOAT32)


def test_other_is_all_the_rest(tiny):
    law = law_of(tiny, embedded_task(MAXIMUM_PROMPTS))
    assert mass_error(law) <= mass_tolerance(law)
    rest = 1 - np.exp(law[:, :-1]).sum(axis=1)
    np.testing.assert_allclose(np.exp(law[:, -1]), rest, rtol=1e-12)


def test_other_keeps_its_digits_where_a_subtraction_would_not(tiny):
    """With the head scaled up the policy is nearly deterministic and `other` is astronomically small or large."""
    task = embedded_task(4)
    before = tiny.state()
    with torch.no_grad():
        tiny.head.weight.mul_(200)
    law = law_of(tiny, task)
    tiny.restore(before)
    assert np.isfinite(law).all()
    assert mass_error(law) <= mass_tolerance(law)
    assert law.min() < -100


def test_padding_and_company_in_the_batch_change_nothing(tiny):
    together = law_of(tiny, embedded_task(8))
    task = embedded_task(8)
    for index in (0, 7):
        alone = law_of(tiny, type(task)(task.prompts[index : index + 1]))
        assert np.abs(alone - together[index]).max() <= enumeration_tolerance(alone, 2, FLOAT32)


def out_of_order(policy):
    """Trie nodes at positions in the order of the batch, instead of at their depth."""
    tokens = policy.batch.tokens
    wrong = torch.arange(tokens.shape[1]).expand_as(tokens)
    policy.batch = replace(policy.batch, positions=wrong)
    return policy


def test_the_guard_can_fail(tiny):
    task = embedded_task(2)
    row = out_of_order(policy_of(tiny, task)).measured()[0]
    difference = np.abs(row[:-1] - law_one_at_a_time(tiny, task.prompts[0])).max()
    assert difference > enumeration_tolerance(row, 2, FLOAT32)


def test_a_layout_that_the_model_does_not_honour_is_passed_over(tiny, monkeypatch):
    class Careless(Policy):
        def measured(self):
            return super(Careless, out_of_order(self)).measured()

    prompt = embedded_task(1).prompts[0]
    assert choose_layout(tiny, prompt)[0] == SHARED_PREFIXES
    monkeypatch.setattr("validate.enumerated.law.Policy", Careless)
    assert choose_layout(tiny, prompt)[0] == ONE_ROW_EACH
    with pytest.raises(ModelError, match=r"differs from the logits .*\(shared prefixes: off by"):
        choose_layout(tiny, prompt, [SHARED_PREFIXES])


def test_shared_prefixes_need_fewer_places(tiny):
    sizes = [policy_of(tiny, embedded_task(8), layout).batch.places for layout in LAYOUTS]
    assert sizes[1] > 3 * sizes[0]


def test_the_gradient_is_that_of_the_law(tiny):
    policy = policy_of(tiny, embedded_task(2))
    weight = tiny.head.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    policy()[:, 1].sum().backward()
    slope = float((weight.grad * direction).sum())
    weight.grad = None
    before, step = weight.detach().clone(), 1e-2
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.copy_(before + sign * step * direction)
        values.append(policy.measured()[:, 1].sum())
    with torch.no_grad():
        weight.copy_(before)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=2e-3)


def test_the_data_law_has_spread_and_the_reward_several_levels():
    task = embedded_task(MAXIMUM_PROMPTS)
    law = np.exp(task.log_d)
    np.testing.assert_allclose(law.sum(axis=1), 1, atol=1e-15)
    assert (law[:, -1] == 0).all()
    assert law[:, :-1].min() > 0.01
    assert all(len(set(row[:-1])) == 4 for row in task.reward)
    assert len({tuple(row) for row in law.round(12)}) == 12


def test_equal_and_unknown_responses_are_errors(tiny):
    prompt = embedded_task(1).prompts[0]
    twice = type(prompt)(prompt.text, (" Paris.", " Paris."), (0.5, 0.5), (1.0, 0.0))
    with pytest.raises(ValueError, match="the same tokens"):
        encode(tiny.tokenizer, twice)
    unknown = type(prompt)(prompt.text, (" Atlantis.", " Paris."), (0.5, 0.5), (1.0, 0.0))
    with pytest.raises(ValueError, match=r"no token for a part of the response ' Atlantis\.'"):
        encode(tiny.tokenizer, unknown)
