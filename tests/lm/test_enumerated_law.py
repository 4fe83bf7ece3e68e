"""The law over the trie equals the model's own probabilities, and the guards of the law can fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import ModelError, ResponseError, enumerate_law, from_transformers
from nondecoupling.lm.enumerated_law import EnumeratedLaw, choose_layout, law_one_at_a_time
from nondecoupling.lm.tiny import word_tokenizer
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

    some = encoded(tiny)[:1]
    assert choose_layout(tiny, some).layout == SHARED_PREFIXES
    monkeypatch.setattr("nondecoupling.lm.enumerated_law.EnumeratedLaw", Careless)
    assert choose_layout(tiny, some).layout == ONE_ROW_EACH
    with pytest.raises(ModelError, match=r"differs from the logits .*\(shared prefixes: off by"):
        choose_layout(tiny, some, [SHARED_PREFIXES])


SHORT, LONG = "Is it red?", " ".join(["is it blue or red"] * 6)
BRANCHED, CHAIN = (" Yes it is.", " Yes it no.", " No."), ("", " No.", " No. No.")
WINDOWED = {"sliding_window": 8, "max_position_embeddings": 64}


def model_with(name, **changes):
    """A random model of that class, for these texts."""
    tokenizer = word_tokenizer([SHORT, LONG, *BRANCHED])
    config = getattr(transformers, f"{name}{'Text' if name == 'Gemma3' else ''}Config")(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )
    torch.manual_seed(0)
    return from_transformers(getattr(transformers, f"{name}ForCausalLM")(config), tokenizer)


def assert_its_own_law(model, law, prompts, candidates):
    found, eps = law.measured(), torch.finfo(model.head.weight.dtype).eps
    for row, *texts in zip(found, prompts, candidates, strict=True):
        plain = law_one_at_a_time(model, encode(model.tokenizer, *texts))
        assert np.abs(row[:-1] - plain).max() <= enumeration_tolerance(row, 2, eps)


ATTENTION = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
MAMBA = {"state_size": 8, "head_dim": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 16}


GEMMA = ATTENTION | {"head_dim": 8, "layer_types": ["sliding_attention"] * 2}


@pytest.fixture(
    scope="module", params=[("Mistral", ATTENTION), ("Gemma3", GEMMA)], ids=lambda p: p[0]
)
def windowed(request):
    name, own = request.param
    return model_with(name, **own, **WINDOWED)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_window_that_only_the_longest_prompt_leaves_is_seen(windowed, place):
    prompts = ["Is it blue?", SHORT]
    assert enumerate_law(windowed, prompts, [BRANCHED] * 2).layout == SHARED_PREFIXES
    prompts.insert(place, LONG)
    law = enumerate_law(windowed, prompts, [BRANCHED] * 3)
    assert law.layout == ONE_ROW_EACH
    assert_its_own_law(windowed, law, prompts, [BRANCHED] * 3)


@pytest.fixture(scope="module")
def mamba2():
    return model_with("Mamba2", **MAMBA)


def test_a_mask_that_is_ignored_is_seen_behind_candidates_that_form_a_chain(mamba2):
    """Tokens of a chain stand where they would in a row of their own; of the others the longest would show it."""
    chains = [SHORT, LONG]
    assert enumerate_law(mamba2, chains, [CHAIN] * 2).layout == SHARED_PREFIXES
    prompts, candidates = [*chains, "Is it blue?"], [CHAIN, CHAIN, BRANCHED]
    law = enumerate_law(mamba2, prompts, candidates)
    assert law.layout == ONE_ROW_EACH
    assert_its_own_law(mamba2, law, prompts, candidates)


def test_the_difference_is_that_of_the_first_prompt(tiny):
    every = encoded(tiny)
    alone, together = choose_layout(tiny, every[:1]), choose_layout(tiny, every)
    assert together == alone and alone.difference > 0


def test_in_half_precision_candidates_have_rows_of_their_own():
    model = model_with("Mistral", **ATTENTION | WINDOWED)
    half = from_transformers(model.model.bfloat16(), model.tokenizer)
    assert enumerate_law(half, [LONG], [BRANCHED]).layout == ONE_ROW_EACH


def test_a_candidate_ends_once(tiny):
    with_end = [f"{text}<eos>" for text in CANDIDATES[0]]
    np.testing.assert_array_equal(
        enumerate_law(tiny, PROMPTS[:1], [with_end]).measured(), law_of(tiny, PROMPTS[:1])
    )
    for candidates, words in (
        ([" yes.", " yes.<eos>"], "two responses to 'Is snow white.' have the same tokens"),
        ([" yes.<eos> no.", " no."], "goes on behind '<eos>'"),
    ):
        with pytest.raises(ResponseError, match=words):
            enumerate_law(tiny, PROMPTS[:1], [candidates])


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
