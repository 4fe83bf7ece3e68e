"""Where positions depend on the longest row, a score is that of the sequence, whatever else is evaluated."""

import numpy as np
import pytest
import torch
import transformers
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import ModelError, enumerate_law, from_transformers
from nondecoupling.lm.rope import row_lengths
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse

FIRST = 16
LONG = f"Is snow white{' is coal black' * 5}?"
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
KINDS = {
    "Phi3": {"max_position_embeddings": 64, "original_max_position_embeddings": FIRST}
    | {"rope_parameters": LONGROPE | {"rope_theta": 1e4}},
    "Llama": {"max_position_embeddings": FIRST}
    | {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
}


@pytest.fixture(scope="module")
def phi3(tiny):
    return model_of("Phi3", tiny.tokenizer)


def model_of(kind, tokenizer):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SIZES,
        **KINDS[kind],
    )
    torch.manual_seed(0)
    return from_transformers(getattr(transformers, f"{kind}ForCausalLM")(config), tokenizer)


def random_pairs(tokenizer, *lengths):
    rng, size = np.random.default_rng(0), len(tokenizer)
    return [PromptResponse(*(rng.integers(3, size, n).tolist() for n in both)) for both in lengths]


def prefix_by_prefix(model, pair):
    """log p of a response whose tokens are each read off the logits behind their own prefix."""
    total = 0.0
    for place, token in enumerate(pair.response):
        prefix = torch.tensor([[*pair.prompt, *pair.response[:place]]])
        with torch.no_grad():
            logits = model.model(input_ids=prefix, use_cache=False).logits[0, -1].double()
        total += float(torch.log_softmax(logits, -1)[token])
    return total


# Whole sequences of up to 17 tokens have rows of 16 or less; three begin before the switch and end behind it.
LENGTHS = [(3, 2), (14, 3), (14, 4), (15, 1), (16, 1), (16, 4), (17, 2), (10, 12), (20, 5)]


def test_a_score_is_that_of_every_token_behind_its_own_prefix(phi3):
    pairs = random_pairs(phi3.tokenizer, *LENGTHS)
    expected = [prefix_by_prefix(phi3, pair) for pair in pairs]
    together = log_probs(phi3, pairs)
    np.testing.assert_allclose(together, expected, atol=2e-4)
    np.testing.assert_allclose(log_probs(phi3, pairs[::-1])[::-1], expected, atol=2e-4)
    np.testing.assert_allclose([log_probs(phi3, [pair])[0] for pair in pairs], expected, atol=2e-4)
    # In one row with other frequencies the same tokens have another law.
    alike = PromptResponse(pairs[0].prompt, [*pairs[0].response, *pairs[-1].prompt])
    tokens = torch.tensor([[*alike.prompt, *alike.response]])
    with torch.no_grad():
        laws = torch.log_softmax(phi3.model(input_ids=tokens).logits[0].double(), -1)
    in_a_long_row = sum(float(laws[2 + n, token]) for n, token in enumerate(pairs[0].response))
    assert abs(in_a_long_row - expected[0]) > 0.05


def test_prompts_that_are_shared_are_scored_alike(phi3):
    prompts = random_pairs(phi3.tokenizer, (9, 1), (14, 1), (20, 1))
    responses = random_pairs(phi3.tokenizer, *[(1, 4)] * 5)
    pairs = [PromptResponse(x.prompt, y.response) for x in prompts for y in responses]
    expected = [prefix_by_prefix(phi3, pair) for pair in pairs]
    np.testing.assert_allclose(log_probs(phi3, pairs), expected, atol=2e-4)


def test_prompts_on_both_sides_are_not_enumerated_together(phi3):
    for prompt in (PROMPTS[0], LONG):
        law = enumerate_law(phi3, [prompt], CANDIDATES[:1]).measured()[0, :-1]
        start, ids = (phi3.tokenizer(text)["input_ids"] for text in (prompt, CANDIDATES[0][0]))
        whole = PromptResponse(start, [*ids, phi3.tokenizer.eos_token_id])
        assert abs(law[0] - prefix_by_prefix(phi3, whole)) <= 2e-4
    with pytest.raises(ModelError, match="more than 16 tokens have other rotary"):
        enumerate_law(phi3, [PROMPTS[0], LONG], CANDIDATES[:2])


def test_frequencies_that_depend_on_earlier_rows_give_no_law(tiny):
    model = model_of("Llama", tiny.tokenizer)
    pairs = random_pairs(tiny.tokenizer, (3, 2), (10, 6))
    expected = log_probs(model, pairs)
    with torch.no_grad():
        model.model(input_ids=torch.tensor([[5] * 40]), use_cache=False)
    np.testing.assert_array_equal(log_probs(model, pairs), expected)
    for lengths in ((10, 7), (16, 1), (30, 3)):
        with pytest.raises(ModelError, match=f"has {sum(lengths)} tokens, and beyond 16 the"):
            log_probs(model, [*pairs, *random_pairs(tiny.tokenizer, lengths)])
    with pytest.raises(ModelError, match="beyond 16"):
        enumerate_law(model, [LONG], CANDIDATES[:1])


def test_what_configurations_say():
    plain = transformers.Gemma3TextConfig()
    assert row_lengths(plain).switches == () and row_lengths(plain).longest is None
    plain.rope_parameters["full_attention"] |= LONGROPE | {"original_max_position_embeddings": 7}
    assert row_lengths(plain).switches == (7,)
    assert row_lengths(transformers.GPT2Config()) == row_lengths(transformers.Qwen3Config())
