"""Scores are the model's own log-probabilities; two policies are compared with the right one as ref."""

import numpy as np
import pytest
import torch
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.estimate import token_scores
from nondecoupling.lm import (
    ResponseError,
    compare_models,
    from_transformers,
    sample_responses,
    score_responses,
    tiny_qwen3,
)
from nondecoupling.lm.enumerated_law import law_one_at_a_time
from nondecoupling.lm.scoring import compare_states, log_probs
from nondecoupling.lm.tokens import PromptResponse, prompt_response
from nondecoupling.lm.tries import encode

TEXTS = [*PROMPTS, *CANDIDATES[0]]


def own_logits(language_model, prompt, responses):
    return law_one_at_a_time(
        language_model, encode(language_model.tokenizer, prompt, list(responses))
    )


@pytest.mark.parametrize("rows_at_once", [1, 4, 256])
def test_scores_are_the_models_own_log_probabilities(tiny, rows_at_once):
    prompts = [prompt for prompt in PROMPTS for _ in CANDIDATES[0]]
    found = score_responses(tiny, prompts, CANDIDATES[0] * 4, rows_at_once=rows_at_once)
    expected = np.concatenate([own_logits(tiny, prompt, CANDIDATES[0]) for prompt in PROMPTS])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # A score without the end-of-sequence token would be off by more than a nat.
    open_ended = [prompt_response(tiny.tokenizer, PROMPTS[0], y) for y in CANDIDATES[0]]
    shorter = [PromptResponse(one.prompt, one.response[:-1]) for one in open_ended]
    assert (log_probs(tiny, shorter) - found[:6]).min() > 1


def moved(language_model, seed=1):
    """Another policy of the same architecture and tokenizer."""
    other = tiny_qwen3(TEXTS, seed)
    return from_transformers(other.model, language_model.tokenizer)


def test_two_models_are_compared_each_as_itself(tiny):
    other = moved(tiny)
    prompts, responses = [PROMPTS[0]] * 6, CANDIDATES[0]
    scores = compare_models(tiny, other, prompts, responses)
    np.testing.assert_allclose(scores.log_p, score_responses(tiny, prompts, responses))
    np.testing.assert_allclose(scores.log_ref, score_responses(other, prompts, responses))
    assert (scores.kl > 0).all()
    back = compare_models(other, tiny, prompts, responses)
    assert np.abs(back.kl - scores.kl).min() > 1e-3
    same = compare_models(tiny, tiny, prompts, responses)
    np.testing.assert_array_equal(same.kl, 0)


def test_the_kl_is_that_of_the_next_token_laws(tiny):
    other, one = moved(tiny), prompt_response(tiny.tokenizer, PROMPTS[1], CANDIDATES[1][3])
    tokens = torch.tensor([[*one.prompt, *one.response]])
    steps = []
    with torch.no_grad():
        for model in (tiny, other):
            logits = model.causal(input_ids=tokens).logits[0, len(one.prompt) - 1 : -1].double()
            steps.append(torch.log_softmax(logits, dim=-1))
    expected = float((steps[0].exp() * (steps[0] - steps[1])).sum())
    found = compare_models(tiny, other, [PROMPTS[1]], [CANDIDATES[1][3]])
    assert found.kl[0] == pytest.approx(expected, rel=1e-4)


def test_two_states_of_one_model_are_two_policies(tiny):
    other = moved(tiny)
    p, ref = tiny.state(), other.state()
    pairs = [prompt_response(tiny.tokenizer, PROMPTS[0], y) for y in CANDIDATES[0]]
    found = compare_states(tiny, pairs, p, ref)
    expected = compare_models(tiny, other, [PROMPTS[0]] * 6, CANDIDATES[0])
    for name in ("log_p", "log_ref", "kl"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    np.testing.assert_array_equal(tiny.state()["lm_head.weight"], p["lm_head.weight"])


def test_every_token_is_scored_with_the_whole_law_it_came_from(tiny):
    """Against the definition, on responses of several lengths, whatever is evaluated together."""
    pairs = [prompt_response(tiny.tokenizer, PROMPTS[0], y) for y in CANDIDATES[0]]
    other = moved(tiny).state()
    p = {name: value.clone() for name, value in tiny.state().items()}
    found = compare_states(tiny, pairs, p, other, 4, per_token=True)
    tokens = found.tokens
    lengths = [len(pair.response) for pair in pairs]
    assert np.asarray(tokens.mask).sum(axis=1).tolist() == lengths and len(set(lengths)) > 1
    for name, whole in (("log_p", found.log_p), ("log_ref", found.log_ref)):
        summed = np.where(tokens.mask, getattr(tokens, name), 0.0).sum(axis=1)
        np.testing.assert_allclose(summed, whole, rtol=1e-12)
    for row, pair in enumerate(pairs):
        together = torch.tensor([[*pair.prompt, *pair.response]])
        with torch.no_grad():
            logits = tiny.causal(together).logits[0, len(pair.prompt) - 1 : -1]
        law, size = torch.log_softmax(logits.double(), dim=-1).numpy(), len(pair.response)
        log_ref = np.asarray(tokens.log_ref)[row : row + 1, :size]
        expected = token_scores(law[None], [pair.response], log_ref, np.ones((1, size)))
        for name in ("log_p", "log_sums", "mass_before", "nucleus_mass", "in_nucleus"):
            got = np.asarray(getattr(tokens, name))[row, :size]
            np.testing.assert_allclose(got, np.asarray(getattr(expected, name))[0], atol=1e-4)
    assert compare_states(tiny, pairs, p, other).tokens is None


def test_a_trained_bias_of_the_head_belongs_to_its_state():
    """Restoring p must not change the bias that ref was scored with."""
    model = tiny_qwen3(TEXTS, 0)
    head = model.head
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    ref, p = model.state(), model.state()
    p["lm_head.bias"][3] = 5.0
    pairs = [prompt_response(model.tokenizer, PROMPTS[0], y) for y in CANDIDATES[0]]
    scores = compare_states(model, pairs, p, ref)
    assert (scores.kl > 0.1).all()


def test_responses_are_drawn_from_the_law_that_is_scored(tiny):
    """Of the responses of one token each has the frequency of its probability."""
    words = [tiny.tokenizer.decode([token]) for token in range(3, len(tiny.tokenizer))]
    count = 4000
    drawn = sample_responses(tiny, [PROMPTS[0]] * count, max_tokens=2, seed=0)
    chances = np.exp(score_responses(tiny, [PROMPTS[0]] * len(words), words))
    for word, chance in zip(words, chances, strict=True):
        spread = np.sqrt(count * chance * (1 - chance))
        # The texts of other responses of two tokens may be the same only if they hold special tokens.
        ended = sum(text == word for text in drawn)
        assert ended >= count * chance - 5 * spread


def test_the_same_seed_draws_the_same_responses(tiny):
    once, again, other = (
        sample_responses(tiny, PROMPTS * 4, max_tokens=6, seed=seed) for seed in (3, 3, 4)
    )
    assert once == again != other


def test_bad_requests_are_named(tiny):
    with pytest.raises(ResponseError, match="max_tokens is 0; it must be at least 1"):
        sample_responses(tiny, PROMPTS, max_tokens=0, seed=0)
    with pytest.raises(ResponseError, match="prompts is empty"):
        sample_responses(tiny, [], max_tokens=4, seed=0)
    with pytest.raises(ResponseError, match="4 prompts and 1 responses"):
        score_responses(tiny, PROMPTS, [" yes."])
    with pytest.raises(ResponseError, match="no token for a part of the response ' maybe"):
        score_responses(tiny, PROMPTS[:1], [" maybe."])
    other = tiny_qwen3([*TEXTS, " An extra word"], 0)
    with pytest.raises(ResponseError, match="into different tokens"):
        compare_models(tiny, other, PROMPTS[:1], [" yes."])
