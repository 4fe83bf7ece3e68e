"""A prompt that stands once for several responses changes no score, and what does not honour that is noticed."""

import numpy as np
import pytest
import torch
from test_own_logits import made
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import compare_models, from_transformers, response_rows, score_responses
from nondecoupling.lm.response_rows import LONGEST_ROW
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse


def pairs_of(*responses, prompt=(5, 6, 7)):
    return [PromptResponse(list(prompt), list(response)) for response in responses]


def rows_of(pairs, longest=LONGEST_ROW):
    return response_rows.response_rows(pairs, longest, torch.float32)


def without_sharing(model, pairs, monkeypatch):
    with monkeypatch.context() as alone:
        alone.setattr(response_rows, "LONGEST_ROW", 0)
        return log_probs(model, pairs)


def test_what_begins_alike_is_evaluated_once():
    """Repeated responses, one that begins another, and ones that part at the first or at a later token."""
    rows = rows_of(pairs_of([1, 2, 3], [1, 2, 3], [1, 2], [1, 4, 3], [8]))
    assert rows.tokens.tolist() == [[5, 6, 7, 1, 2, 4]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 4, 4]]
    assert rows.source == [[2, 3, 4], [2, 3, 4], [2, 3], [2, 3, 5], [2]]
    seen = (rows.mask[0, 0] == 0).nonzero().tolist()
    assert [place for row, place in seen if row == 5] == [0, 1, 2, 3, 5]
    # Response 3 stands elsewhere than in a row of its own, and response 0 is the longest.
    assert rows.checked == [0, 3]


def test_rows_end_where_they_would_be_too_long():
    pairs = pairs_of([1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 9])
    assert rows_of(pairs, 8).tokens.tolist() == [[5, 6, 7, 1, 2, 4, 5], [5, 6, 7, 7, 8, 1, 2]]
    each = rows_of(pairs, 0)
    assert each.mask is None and each.tokens.shape == (4, 5)
    # A mask as wide as one long response would be large for all.
    mixed = rows_of([*pairs, *pairs_of([1] * 20)], 8)
    assert mixed.mask is None and mixed.tokens.shape == (5, 22)


@pytest.mark.parametrize("family", ["nothing", "a cap", "a bias", "a scale, another name"])
def test_scores_are_those_of_rows_of_their_own(family, tiny, monkeypatch):
    model = from_transformers(made(family, tiny.tokenizer), tiny.tokenizer)
    rng, size = np.random.default_rng(0), len(tiny.tokenizer)
    pairs = [
        PromptResponse(prompt, rng.integers(size, size=n).tolist())
        for prompt in (rng.integers(size, size=4).tolist(), rng.integers(size, size=6).tolist())
        for n in (1, 5, 5, 9)
    ]
    np.testing.assert_allclose(
        log_probs(model, pairs), without_sharing(model, pairs, monkeypatch), atol=2e-4
    )
    # FalconH1 has state space layers, which see the row as it stands.
    assert (model.model in response_rows._WITHOUT_MASKS) == (family == "a scale, another name")


def test_a_window_of_attention_that_the_mask_would_lose_is_noticed(tiny, monkeypatch):
    """Five tokens are inside a window of 8; behind 32 the plain model has forgotten the first ones."""
    model = from_transformers(made("a cap", tiny.tokenizer, sliding_window=8), tiny.tokenizer)
    short = pairs_of([4, 5], [6, 7])
    np.testing.assert_allclose(
        log_probs(model, short), without_sharing(model, short, monkeypatch), atol=2e-4
    )
    assert model.model not in response_rows._WITHOUT_MASKS
    long = pairs_of([4, 5], [6, 7], prompt=[*range(8)] * 4)
    expected = without_sharing(model, long, monkeypatch)
    np.testing.assert_allclose(log_probs(model, long), expected, atol=1e-9)
    assert model.model in response_rows._WITHOUT_MASKS


def test_a_mask_that_is_ignored_is_noticed(tiny, monkeypatch):
    plain = type(tiny).hidden_states
    monkeypatch.setattr(
        type(tiny), "hidden_states", lambda self, t, mask, p: plain(self, t, None, p)
    )
    model = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    responses = CANDIDATES[0]
    found = score_responses(model, [PROMPTS[0]] * 6, responses)
    assert model.model in response_rows._WITHOUT_MASKS
    each = [score_responses(model, [PROMPTS[0]], [response])[0] for response in responses]
    np.testing.assert_allclose(found, each, atol=2e-4)


def rows_evaluated(model, pairs, monkeypatch):
    """How many rows of tokens the network sees while these responses are scored, call by call."""
    seen, plain = [], type(model).hidden_states
    with monkeypatch.context() as counting:
        counting.setattr(
            type(model),
            "hidden_states",
            lambda self, tokens, *how: seen.append(len(tokens)) or plain(self, tokens, *how),
        )
        log_probs(model, pairs)
    return seen


def test_the_mask_is_compared_once_for_all_that_is_not_longer(tiny, monkeypatch):
    model = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    pairs = pairs_of([4, 5, 6], [7, 4])
    # The shared row, the two responses alone, the shared row without its mask.
    assert rows_evaluated(model, pairs, monkeypatch) == [1, 2, 1]
    assert rows_evaluated(model, pairs, monkeypatch) == [1]
    assert rows_evaluated(model, pairs_of([6, 5], [7, 6]), monkeypatch) == [1]
    longer = pairs_of([4, 5, 6, 7], [7, 4])
    assert rows_evaluated(model, longer, monkeypatch) == [1, 2, 1]
    assert rows_evaluated(model, pairs, monkeypatch) == [1]
    wider = pairs_of([4, 5, 6], [7, 8, 9], [8, 9, 4])
    assert rows_evaluated(model, wider, monkeypatch) == [1, 2, 1]
    assert rows_evaluated(model, longer, monkeypatch) == [1]
    # Other code computes attention from here on.
    model.model.config._attn_implementation = "eager"
    assert rows_evaluated(model, pairs, monkeypatch) == [1, 2, 1]
    assert rows_evaluated(model, wider, monkeypatch) == [1, 2, 1]


def test_a_prompt_is_shared_where_that_saves_a_quarter_of_the_tokens(tiny, monkeypatch):
    """6 of 8 tokens are left with a prompt of 2, and 5 of 6 with one, for which a mask would cost more."""
    for prompt, rows in (([4, 5], 1), ([4], 2)):
        model = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
        pairs = pairs_of([4, 5, 6], [7, 8, 9], prompt=prompt)
        assert rows_evaluated(model, pairs, monkeypatch)[0] == rows


def test_a_window_is_noticed_though_a_wider_row_of_short_responses_passed(tiny, monkeypatch):
    model = from_transformers(made("a cap", tiny.tokenizer, sliding_window=8), tiny.tokenizer)
    log_probs(model, pairs_of(*([4 + i, 5, 6, 7] for i in range(12)), prompt=[5, 6]))
    assert model.model not in response_rows._WITHOUT_MASKS
    long = pairs_of([4, 5], [6, 7], prompt=[*range(8)] * 3)
    expected = without_sharing(model, long, monkeypatch)
    np.testing.assert_allclose(log_probs(model, long), expected, atol=1e-9)
    assert model.model in response_rows._WITHOUT_MASKS


def test_a_mask_that_is_ignored_in_wide_rows_only_is_noticed(tiny, monkeypatch):
    plain = type(tiny).hidden_states
    monkeypatch.setattr(
        type(tiny),
        "hidden_states",
        lambda self, t, mask, p: plain(self, t, mask if t.shape[1] <= 8 else None, p),
    )
    model = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    log_probs(model, pairs_of([4, 5, 6], [7, 8, 9]))
    assert model.model not in response_rows._WITHOUT_MASKS
    wide = pairs_of([4, 5, 6], [7, 8, 9], [8, 9, 4])
    expected = without_sharing(model, wide, monkeypatch)
    np.testing.assert_allclose(log_probs(model, wide), expected, atol=1e-9)
    assert model.model in response_rows._WITHOUT_MASKS


def test_attention_that_counts_for_nothing_yet_is_compared_again(tiny, monkeypatch):
    """A mask that is ignored shows once the first step has made attention count."""
    model = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    projections = [layer.self_attn.o_proj.weight for layer in model.model.model.layers]
    trained = [weight.detach().clone() for weight in projections]
    for weight in projections:
        weight.data.zero_()
    plain = type(tiny).hidden_states
    monkeypatch.setattr(
        type(tiny), "hidden_states", lambda self, t, mask, p: plain(self, t, None, p)
    )
    pairs = pairs_of([4, 5, 6], [7, 4])
    log_probs(model, pairs)
    assert model.model not in response_rows._WITHOUT_MASKS
    for weight, after in zip(projections, trained, strict=True):
        weight.data.copy_(after)
    expected = without_sharing(model, pairs, monkeypatch)
    np.testing.assert_allclose(log_probs(model, pairs), expected, atol=1e-9)
    assert model.model in response_rows._WITHOUT_MASKS


def test_in_half_precision_nothing_is_shared(tiny, monkeypatch):
    model = from_transformers(made("nothing", tiny.tokenizer).bfloat16(), tiny.tokenizer)
    asked = []
    plain = response_rows.response_rows
    monkeypatch.setattr(
        response_rows, "response_rows", lambda pairs, *how: asked.append(how) or plain(pairs, *how)
    )
    score_responses(model, [PROMPTS[0]] * 6, CANDIDATES[0])
    assert asked == [(0, torch.bfloat16)]


def test_two_models_of_which_one_shares(tiny):
    """Their rows differ, the tokens that are compared do not."""
    shares = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    refuses = from_transformers(made("nothing", tiny.tokenizer), tiny.tokenizer)
    prompts = [PROMPTS[0]] * 6
    expected = compare_models(shares, shares, prompts, CANDIDATES[0])
    response_rows._WITHOUT_MASKS.add(refuses.model)
    found = compare_models(shares, refuses, prompts, CANDIDATES[0])
    np.testing.assert_allclose(found.log_ref, expected.log_p, atol=2e-4)
    np.testing.assert_allclose(found.kl, 0, atol=1e-6)
