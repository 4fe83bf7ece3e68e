"""The law over the trie equals the model's own probabilities, and the guards of the law can fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import ModelError, ResponseError, enumerate_law
from nondecoupling.lm.enumerated_law import EnumeratedLaw, choose_layout, law_one_at_a_time
from nondecoupling.lm.tolerances import enumeration_tolerance, mass_error, mass_tolerance
from nondecoupling.lm.tries import LAYOUTS, ONE_ROW_EACH, SHARED_PREFIXES, encode

FLOAT32 = float(np.finfo(np.float32).eps)


def encoded(language_model, prompts=PROMPTS):
    pairs = zip(prompts, CANDIDATES, strict=False)
    return [encode(language_model.tokenizer, *pair) for pair in pairs]


def policy_of(language_model, prompts=PROMPTS, layout=SHARED_PREFIXES):
    return EnumeratedLaw(language_model, encoded(language_model, prompts), layout)


def law_of(language_model, prompts=PROMPTS, layout=SHARED_PREFIXES):
    return policy_of(language_model, prompts, layout).measured()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_law_equals_the_models_own_logits(tiny, layout):
    law = law_of(tiny, layout=layout)
    for one, row in zip(encoded(tiny), law, strict=True):
        plain = law_one_at_a_time(tiny, one)
        assert np.abs(row[:-1] - plain).max() <= enumeration_tolerance(row, 2, FLOAT32)


def test_other_is_all_the_rest(tiny):
    law = law_of(tiny)
    assert mass_error(law) <= mass_tolerance(law)
    rest = 1 - np.exp(law[:, :-1]).sum(axis=1)
    np.testing.assert_allclose(np.exp(law[:, -1]), rest, rtol=1e-12)


def test_other_keeps_its_digits_where_a_subtraction_would_not(tiny):
    """With the head scaled up the policy is nearly deterministic and `other` is astronomically small or large."""
    before = tiny.state()
    with torch.no_grad():
        tiny.head.weight.mul_(200)
    law = law_of(tiny)
    tiny.restore(before)
    assert np.isfinite(law).all()
    assert mass_error(law) <= mass_tolerance(law)
    assert law.min() < -100


def test_padding_and_company_in_the_batch_change_nothing(tiny):
    together = law_of(tiny)
    for index in (0, 3):
        alone = law_of(tiny, PROMPTS[index : index + 1])
        assert np.abs(alone - together[index]).max() <= enumeration_tolerance(alone, 2, FLOAT32)


def out_of_order(policy):
    """Trie nodes at positions in the order of the batch, instead of at their depth."""
    tokens = policy.batch.tokens
    wrong = torch.arange(tokens.shape[1]).expand_as(tokens)
    policy.batch = replace(policy.batch, positions=wrong)
    return policy


def test_the_guard_can_fail(tiny):
    row = out_of_order(policy_of(tiny)).measured()[0]
    difference = np.abs(row[:-1] - law_one_at_a_time(tiny, encoded(tiny)[0])).max()
    assert difference > enumeration_tolerance(row, 2, FLOAT32)


def test_a_layout_that_the_model_does_not_honour_is_passed_over(tiny, monkeypatch):
    class Careless(EnumeratedLaw):
        def measured(self):
            return super(Careless, out_of_order(self)).measured()

    one = encoded(tiny)[0]
    assert choose_layout(tiny, one).layout == SHARED_PREFIXES
    monkeypatch.setattr("nondecoupling.lm.enumerated_law.EnumeratedLaw", Careless)
    assert choose_layout(tiny, one).layout == ONE_ROW_EACH
    with pytest.raises(ModelError, match=r"differs from the logits .*\(shared prefixes: off by"):
        choose_layout(tiny, one, [SHARED_PREFIXES])


def test_shared_prefixes_need_fewer_places(tiny):
    sizes = [policy_of(tiny, layout=layout).batch.places for layout in LAYOUTS]
    assert sizes[1] > 2 * sizes[0]


def test_the_gradient_is_that_of_the_law(tiny):
    policy = policy_of(tiny)
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


def test_responses_that_cannot_be_told_apart_or_said_are_errors(tiny):
    for responses, words in (
        ([" yes.", " yes."], r"two responses to 'Is snow white\?' have the same tokens: ' yes\.'"),
        ([" maybe.", " yes."], r"no token for a part of the response ' maybe\.'"),
        ([], "has no candidate responses"),
    ):
        with pytest.raises(ResponseError, match=words):
            encode(tiny.tokenizer, PROMPTS[0], responses)


def test_prompts_and_candidates_that_do_not_fit_are_errors(tiny):
    with pytest.raises(ResponseError, match="4 prompts and 1 lists of candidates"):
        enumerate_law(tiny, PROMPTS, CANDIDATES[:1])
    with pytest.raises(ResponseError, match=r"prompts have \[2, 6\] candidate responses"):
        enumerate_law(tiny, PROMPTS[:2], [CANDIDATES[0], CANDIDATES[1][:2]])
    with pytest.raises(ResponseError, match="prompts have no candidate responses"):
        enumerate_law(tiny, [], [])
    with pytest.raises(ResponseError, match="the prompt '' has no tokens"):
        enumerate_law(tiny, [""], CANDIDATES[:1])


def test_a_law_of_ones_own_prompts_is_that_of_the_batch(tiny):
    np.testing.assert_array_equal(enumerate_law(tiny, PROMPTS, CANDIDATES).measured(), law_of(tiny))
