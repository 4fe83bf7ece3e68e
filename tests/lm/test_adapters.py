"""Adapters: what acts outside the model that is asked is refused, and a digest tells which of them are active."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.collected import CollectedSamples
from nondecoupling.lm import (
    CollectError,
    ModelError,
    collect,
    compare_models,
    from_transformers,
    load_model,
    model_digest,
    score,
    score_responses,
    tiny_qwen3,
    with_lora,
)

peft = pytest.importorskip("peft", reason="pip install peft")

TEXTS = [*PROMPTS, *(text for some in CANDIDATES for text in some)]
SETTINGS = {"k": 4, "reward_bounds": (0, 1), "max_tokens": 3}


def fresh():
    return tiny_qwen3(TEXTS, seed=0)


def lora(**options):
    return peft.LoraConfig(
        **{"r": 2, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], **options}
    )


def moved(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def own_score(model, tokenizer, prompt, response):
    """By the logits of the wrapper."""
    ids = (
        tokenizer(prompt)["input_ids"],
        [*tokenizer(response)["input_ids"], tokenizer.eos_token_id],
    )
    with torch.no_grad():
        laws = torch.log_softmax(
            model(input_ids=torch.tensor([ids[0] + ids[1]])).logits[0].double(), -1
        )
    return sum(float(laws[len(ids[0]) - 1 + place, token]) for place, token in enumerate(ids[1]))


def always(prompts, **columns):
    return [1.0] * len(prompts)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PROMPT_TUNING, which puts"),
        (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PREFIX_TUNING, which puts"),
        (lora(alora_invocation_tokens=[3]), "aLoRA, which acts only behind"),
    ],
)  # fmt: skip
def test_what_acts_in_the_wrapper_is_refused(config, words):
    base = fresh()
    model = peft.get_peft_model(base.model, config)
    with pytest.raises(ModelError, match=f"the adapter 'default' of .* is of the method {words}"):
        from_transformers(model, base.tokenizer)


class Louder(nn.Module):
    """A wrapper that changes the logits, as no method of PEFT is known to do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def get_base_model(self):
        return self.inner

    def forward(self, **given):
        output = self.inner(**given)
        output.logits = 1.05 * output.logits
        return output


def test_the_wrappers_own_logits_decide(tiny):
    with pytest.raises(ModelError, match=r"in a way that is not supported: scores would be off by"):
        from_transformers(Louder(tiny.model), tiny.tokenizer)


def test_an_adapter_on_the_head_is_refused_even_before_it_does_anything():
    base = fresh()
    model = peft.get_peft_model(base.model, lora(target_modules=["q_proj", "lm_head"]))
    words = "output embeddings are a Linear with an adapter"
    with pytest.raises(ModelError, match=words):
        from_transformers(model, base.tokenizer)
    # PEFT has put it into this model, too.
    with pytest.raises(ModelError, match=words):
        score_responses(base, PROMPTS[:1], [" yes."])
    merged = from_transformers(moved(model).merge_and_unload(), base.tokenizer)
    assert np.isfinite(score_responses(merged, PROMPTS[:1], [" yes."])).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3, 4]}, {"use_dora": True}],
)
def test_other_adapters_are_scored_by_their_own_logits(options):
    base = fresh()
    model = moved(peft.get_peft_model(base.model, lora(**options)))
    found = score_responses(from_transformers(model, base.tokenizer), PROMPTS[:1], [" yes."])
    assert found[0] == pytest.approx(
        own_score(model, base.tokenizer, PROMPTS[0], " yes."), abs=1e-4
    )
    assert abs(found[0] - score_responses(fresh(), PROMPTS[:1], [" yes."])[0]) > 1e-3


def test_the_plain_model_stays_what_it_was():
    plain = fresh()
    before = score_responses(plain, PROMPTS[:1], [" yes."])
    adapted = with_lora(plain, rank=2)
    moved(adapted.model)
    np.testing.assert_array_equal(score_responses(plain, PROMPTS[:1], [" yes."]), before)
    found = compare_models(adapted, plain, PROMPTS[:1], [" yes."])
    assert found.kl[0] > 1e-3 and found.log_ref[0] == pytest.approx(before[0], abs=1e-5)
    together = from_transformers(peft.get_peft_model(plain.model, lora()), plain.tokenizer)
    with pytest.raises(ModelError, match="hold one and the same module, so they are one law"):
        compare_models(together, plain, PROMPTS[:1], [" yes."])


def test_a_checkpoint_that_was_changed_since_is_checked_again(tmp_path):
    checkpoint, out = fresh(), tmp_path / "ref.parquet"
    collect(checkpoint.model, checkpoint.tokenizer, PROMPTS, always, out=out, **SETTINGS)
    with torch.no_grad():
        checkpoint.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"lm_head\.weight holds values"):
        score(checkpoint, out, name=1)
    assert CollectedSamples.read(out).later == []


# --- digests --------------------------------------------------------------------------------------


@pytest.fixture
def two_adapters():
    base = fresh()
    model = peft.get_peft_model(base.model, lora())
    model.add_adapter("other", lora())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1 if "other" in name else 0.2)
    model.set_adapter("default")
    return from_transformers(model, base.tokenizer)


def test_a_digest_is_of_the_adapters_that_are_active(two_adapters):
    model, first = two_adapters.model, model_digest(two_adapters)
    with model.disable_adapter():
        assert model_digest(two_adapters) == model_digest(fresh())
    model.set_adapter("other")
    second = model_digest(two_adapters)
    assert len({first, second, model_digest(fresh())}) == 3
    # One that is not active does not count; how strongly an active one does, does.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "default" in name:
                parameter.add_(1.0)
    assert model_digest(two_adapters) == second
    model.base_model.model.model.layers[0].self_attn.q_proj.scaling["other"] *= 2
    assert model_digest(two_adapters) != second


def test_a_digest_of_merged_adapters_is_that_of_the_weights(two_adapters):
    merged = copy.deepcopy(two_adapters.model).merge_and_unload()
    two_adapters.model.merge_adapter()
    assert model_digest(two_adapters) == model_digest(
        from_transformers(merged, two_adapters.tokenizer)
    )


def test_a_digest_of_a_saved_module_is_of_the_one_in_use():
    base = fresh()
    model = peft.get_peft_model(base.model, lora(modules_to_save=["lm_head"]))
    made = from_transformers(model, base.tokenizer)
    assert model_digest(made) == model_digest(fresh())
    with torch.no_grad():
        moved(model)
    assert model_digest(made) != model_digest(fresh())
    with model.disable_adapter():
        assert model_digest(made) == model_digest(fresh())


def test_another_adapter_s_samples_are_not_returned(two_adapters, tmp_path):
    model, out = two_adapters.model, tmp_path / "ref.parquet"
    arguments = (model, two_adapters.tokenizer, PROMPTS, always)
    first = collect(*arguments, out=out, **SETTINGS)
    np.testing.assert_array_equal(collect(*arguments, out=out, **SETTINGS).log_ref, first.log_ref)
    model.set_adapter("other")
    with pytest.raises(CollectError, match=r"made with other settings .*model_digest"):
        collect(*arguments, out=out, **SETTINGS)
    model.set_adapter("default")
    with model.disable_adapter(), pytest.raises(CollectError, match="model_digest"):
        collect(*arguments, out=out, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"rms_norm_eps": 1e-3}, True),
        ({"final_logit_softcapping": 2.0}, True),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}, True),
        ({"use_cache": False}, False),
        ({"pad_token_id": 1}, False),
        ({"attention_dropout": 0.1}, False),
        ({"_name_or_path": "elsewhere"}, False),
        ({"pretraining_tp": 1}, False),
        ({"transformers.js_config": {"dtype": "q4"}}, False),
    ],
)
def test_a_digest_is_of_the_configuration_s_part_in_the_law(tiny, change, counts):
    before = model_digest(tiny)
    changed = copy.deepcopy(tiny)
    for name, value in change.items():
        setattr(changed.model.config, name, value)
    assert (model_digest(changed) != before) == counts


def test_a_digest_is_of_the_tokens_that_end_a_response(tiny):
    changed, end = copy.deepcopy(tiny), tiny.tokenizer.eos_token_id
    changed.model.generation_config.eos_token_id = end
    assert model_digest(changed) == model_digest(tiny)
    changed.model.generation_config.eos_token_id = [end, end + 2]
    assert model_digest(changed) != model_digest(tiny)


def test_a_buffer_of_the_checkpoint_counts_and_others_do_not(tiny):
    before = model_digest(tiny)
    changed = copy.deepcopy(tiny)
    changed.model.register_buffer("scratch", torch.ones(2), persistent=False)
    assert model_digest(changed) == before
    digests = set()
    for value in (1, 2):
        changed.model.register_buffer("correction", torch.tensor([value]))
        digests.add(model_digest(changed))
    assert len(digests | {before}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_checkpoint_has_one_digest(tiny, tmp_path, dtype):
    model = copy.deepcopy(tiny.model).to(dtype)
    model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    assert model_digest(load_model(tmp_path)) == model_digest(tiny)


def test_a_file_of_an_earlier_version_says_what_to_do(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    arguments = (tiny.model, tiny.tokenizer, PROMPTS, always)
    found = collect(*arguments, out=out, **SETTINGS)
    origin = vars(found.origin) | {"model_digest": found.origin.model_digest.partition(":")[2]}
    CollectedSamples(found.table, type(found.origin)(**origin)).write(out)
    with pytest.raises(CollectError, match=r"ref\.parquet was made by an earlier .*Collect again"):
        collect(*arguments, out=out, **SETTINGS)
    np.testing.assert_array_equal(CollectedSamples.read(out).log_ref, found.log_ref)
    np.testing.assert_allclose(score(tiny, out, name=1).log_p(1), found.log_ref, atol=1e-5)
    assert len(json.loads(CollectedSamples.read(out).origin.to_json())["model_digest"]) == 64
