"""Every model is scored by its own logits, whatever its architecture does to them, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import (
    ModelError,
    compare_models,
    enumerate_law,
    from_transformers,
    language_model,
    score_responses,
)
from nondecoupling.lm.enumerated_law import law_one_at_a_time
from nondecoupling.lm.tries import encode

COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}
ATTENTION = {
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
ENCODER = {"intermediate_size": 48, "num_attention_heads": 4, "max_position_embeddings": 64}
FALCON = {
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
}
# What each family does between hidden states and logits -> its class and configuration.
FAMILIES = {
    "a divisor": ("Granite", ATTENTION | {"logits_scaling": 8.0}),
    "a divisor, experts": (
        "GraniteMoe",
        ATTENTION | {"logits_scaling": 6.0, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "a scale": ("Cohere", ATTENTION | {"logit_scale": 0.25}),
    "a scale, another name": ("FalconH1", ATTENTION | FALCON | {"lm_head_multiplier": 0.3}),
    "a cap": ("Gemma2", ATTENTION | {"final_logit_softcapping": 3.0, "sliding_window": 64}),
    "a cap, another name": (
        "RecurrentGemma",
        ATTENTION | {"logits_soft_cap": 3.0, "lru_width": 32, "attention_window_size": 64},
    ),
    "a layer": ("BertLMHeadModel", ENCODER | {"is_decoder": True}),
    "a layer, another name": ("Electra", ENCODER | {"is_decoder": True, "embedding_size": 32}),
    "a bias": ("Phi", ATTENTION),
    "nothing": ("Llama", ATTENTION),
}
# Where the mask of a trie is not honoured, candidates are rows of their own; all of them give a law.


def made(family, tokenizer, **changes):
    name, own = FAMILIES[family]
    kind = name if name.endswith("Model") else f"{name}ForCausalLM"
    config = getattr(
        transformers, kind.replace("ForCausalLM", "").replace("LMHeadModel", "") + "Config"
    )(
        **{
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            **COMMON,
            **own,
            **changes,
        }
    )
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config).float().eval()
    with torch.no_grad():  # random biases too: they are zero at the start
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_models_own_logits(family, tiny):
    model = from_transformers(made(family, tiny.tokenizer), tiny.tokenizer)
    encoded = encode(tiny.tokenizer, PROMPTS[0], CANDIDATES[0])
    own = law_one_at_a_time(model, encoded)
    scores = score_responses(model, [PROMPTS[0]] * 6, CANDIDATES[0])
    np.testing.assert_allclose(scores, own, atol=2e-4)
    law = enumerate_law(model, PROMPTS[:1], CANDIDATES[:1]).measured()
    np.testing.assert_allclose(law[0, :-1], own, atol=2e-4)
    same = compare_models(model, model, [PROMPTS[0]] * 6, CANDIDATES[0])
    np.testing.assert_allclose(same.log_p, own, atol=2e-4)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("nothing", "a bias")])
def test_what_the_table_does_not_know_is_refused_by_name(family, tiny, monkeypatch):
    for table in ("SCALES", "DIVISORS", "CAPS", "LAYERS_BEFORE_THE_HEAD"):
        monkeypatch.setattr(language_model, table, ())
    model = made(family, tiny.tokenizer)
    words = f"{type(model).__name__} maps hidden states to logits in a way that is not supported"
    with pytest.raises(ModelError, match=rf"{words}: scores would be off by \d"):
        from_transformers(model, tiny.tokenizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wrong_scale_is_seen_in_half_precision_too(dtype, tiny, monkeypatch):
    model = made("a divisor", tiny.tokenizer).to(dtype)
    from_transformers(model, tiny.tokenizer)
    monkeypatch.setattr(language_model, "DIVISORS", ())
    with pytest.raises(ModelError, match="in a way that is not supported"):
        from_transformers(model, tiny.tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_in_half_precision(family, tiny):
    for dtype in (torch.bfloat16, torch.float16):
        from_transformers(made(family, tiny.tokenizer).to(dtype), tiny.tokenizer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_scale_near_1_is_seen(dtype, tiny, monkeypatch):
    """Rounded logits of bfloat16 differ by more than this scale moves them."""
    model = made("nothing", tiny.tokenizer).to(dtype)
    from_transformers(model, tiny.tokenizer)
    forward = model.forward

    def louder(**given):
        output = forward(**given)
        output.logits = 1.01 * output.logits
        return output

    monkeypatch.setattr(model, "forward", louder)
    with pytest.raises(ModelError, match="in a way that is not supported"):
        from_transformers(model, tiny.tokenizer)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ModernBertDecoderForCausalLM", {"cls_token_id": 1, "sep_token_id": 1}),
        ("Llama4ForCausalLM", {"intermediate_size_mlp": 48, "num_local_experts": 2}),
    ],
)
def test_an_architecture_that_cannot_be_asked_is_refused_by_name(name, config, tiny):
    kind = {"Llama4ForCausalLM": "Llama4TextConfig"}.get(
        name, name.replace("ForCausalLM", "Config")
    )
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    common = {"vocab_size": len(tiny.tokenizer), **COMMON, **ATTENTION, **ids, **config}
    model = getattr(transformers, name)(getattr(transformers, kind)(**common))
    with pytest.raises(
        ModelError, match=f"{name} cannot be asked for hidden states .* choose another"
    ):
        from_transformers(model, tiny.tokenizer)


def test_the_kl_of_scaled_logits_is_that_of_the_models_own(tiny):
    p, ref = (
        from_transformers(made("a divisor", tiny.tokenizer), tiny.tokenizer) for _ in range(2)
    )
    with torch.no_grad():
        for parameter in ref.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    found = compare_models(p, ref, PROMPTS[:1], [" yes."])
    encoded = encode(tiny.tokenizer, PROMPTS[0], [" yes."])
    tokens = torch.tensor([[*encoded.prompt, *encoded.responses[0]]])
    first = len(encoded.prompt) - 1
    with torch.no_grad():
        laws = [
            torch.log_softmax(m.causal(input_ids=tokens).logits[0, first:-1].double(), dim=-1)
            for m in (p, ref)
        ]
    expected = float((laws[0].exp() * (laws[0] - laws[1])).sum())
    assert found.kl[0] == pytest.approx(expected, rel=1e-3)


def test_models_that_scale_differently_are_not_compared(tiny):
    p = from_transformers(made("a divisor", tiny.tokenizer), tiny.tokenizer)
    ref = from_transformers(made("a divisor", tiny.tokenizer, logits_scaling=2.0), tiny.tokenizer)
    with pytest.raises(
        ModelError, match=r"'temperature': 8\.0.*compare models of one architecture"
    ):
        compare_models(p, ref, PROMPTS[:1], [" yes."])


def test_an_encoder_is_refused(tiny):
    """BERT is loaded as a causal model without complaint, and looks at the answer."""
    for dtype in (torch.float32, torch.bfloat16):
        model = made("a layer", tiny.tokenizer, is_decoder=False).to(dtype)
        with pytest.raises(ModelError, match=r"BertLMHeadModel is no causal model: .* an encoder"):
            from_transformers(model, tiny.tokenizer)


def test_a_model_with_an_encoder_of_its_own_is_refused(tiny):
    config = transformers.T5Config(
        vocab_size=len(tiny.tokenizer), d_model=16, d_ff=16, d_kv=4, num_layers=1, num_heads=2
    )
    model = transformers.T5ForConditionalGeneration(config)
    with pytest.raises(ModelError, match="T5ForConditionalGeneration has an encoder"):
        from_transformers(model, tiny.tokenizer)


def test_a_model_without_a_head_is_refused(tiny):
    name, own = FAMILIES["nothing"]
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tiny.tokenizer), **COMMON, **own)
    with pytest.raises(ModelError, match="LlamaModel has no output embeddings"):
        from_transformers(transformers.LlamaModel(config), tiny.tokenizer)
