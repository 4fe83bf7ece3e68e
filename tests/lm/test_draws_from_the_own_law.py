"""What is drawn is of the law that is scored: no setting of the model, no dropout, no batch and no end moves it."""

import copy
import logging

import numpy as np
import pytest
import torch
import transformers
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import (
    ModelError,
    ResponseError,
    collect,
    compare_models,
    enumerate_law,
    from_transformers,
    sample_responses,
    score_responses,
    tiny_qwen3,
)
from nondecoupling.lm.sampling import draw, options_of_another_law
from nondecoupling.lm.tokens import tokens_of_prompts

TEXTS = [*PROMPTS, *CANDIDATES[0]]
SHORT, LONG = "Is", PROMPTS[0]


@pytest.fixture
def model():
    return tiny_qwen3(TEXTS, seed=0)


def of(kind, tokenizer, **settings):
    """A tiny model of an architecture, whose weights are large enough that padding would show."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(4)
    return from_transformers(made, tokenizer)


def rwkv(tokenizer):
    return of("Rwkv", tokenizer, context_length=64)


def recurrent_gemma(tokenizer):
    window = {"attention_window_size": 64, "lru_width": 64, "intermediate_size": 128}
    return of("RecurrentGemma", tokenizer, num_attention_heads=4, **window)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 0.9),
        ("typical_p", 0.2),
        ("suppress_tokens", [1]),
        ("forced_eos_token_id", 1),
        ("min_new_tokens", 3),
        ("no_repeat_ngram_size", 1),
        ("num_beams", 3),
        ("num_return_sequences", 2),
        ("return_dict_in_generate", True),
    ],
)
def test_the_models_own_settings_of_generate_do_not_count(model, name, value):
    plain = sample_responses(model, PROMPTS * 8, max_tokens=4, seed=0)
    setattr(model.causal.generation_config, name, value)
    own = copy.deepcopy(model.causal.generation_config)
    assert sample_responses(model, PROMPTS * 8, max_tokens=4, seed=0) == plain
    assert model.causal.generation_config.to_dict() == own.to_dict()


def test_to_look_at_draws_changes_neither_them_nor_the_random_numbers(model):
    """Against the plain call of ``generate``, in a batch with padding."""
    prompts = tokens_of_prompts(model.tokenizer, [SHORT, LONG] * 10)
    drawn = draw(model, prompts, 6, 5)
    after, end, length = torch.get_rng_state(), model.tokenizer.eos_token_id, len(prompts[1])
    tokens = torch.tensor([[end] * (length - len(p)) + p for p in prompts])
    seen = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    torch.manual_seed(5)
    whole = model.causal.generate(
        input_ids=tokens, attention_mask=seen, generation_config=model.plain_sampling(6)
    )
    for row, response in zip(whole[:, length:].tolist(), drawn, strict=True):
        assert row[: len(response)] == response and set(row[len(response) :]) <= {end}
    assert torch.equal(after, torch.get_rng_state())


def test_every_end_of_the_model_ends_a_response(model):
    """As in the model's own ``generate``, and in TRL's trainers."""
    end = model.tokenizer.eos_token_id
    prompt = tokens_of_prompts(model.tokenizer, [LONG])[0]
    assert model.ends == [end]
    model.causal.generation_config.eos_token_id = [5, end]
    assert model.ends == [end, 5]
    drawn = draw(model, [prompt] * 200, 6, 0, rows_at_once=200)
    assert {response[-1] for response in drawn if len(response) < 6} == {5, end}
    assert not any({5, end} & set(response[:-1]) for response in drawn)
    torch.manual_seed(0)
    own = model.causal.generate(
        torch.tensor([prompt] * 200), do_sample=True, top_k=0, max_new_tokens=6
    )
    for row, response in zip(own[:, len(prompt) :].tolist(), drawn, strict=True):
        assert row[: len(response)] == response
    model.causal.generation_config = model.plain_sampling(6)
    assert model.ends == [end, 5]


def test_a_response_that_goes_on_past_an_end_of_the_model_is_refused(model, tmp_path):
    word, last = (model.tokenizer.decode([token]) for token in (5, 6))
    score_responses(model, [LONG], [word + last])
    model.causal.generation_config.eos_token_id = [1, 5]
    refused = pytest.raises(ResponseError, match=r"goes on past .*generation_config\.eos_token_id")
    with refused:
        score_responses(model, [LONG], [word + last])
    with refused:
        enumerate_law(model, [LONG], [[last, word + last]])
    with refused:
        collect(
            model.model,
            model.tokenizer,
            [LONG],
            lambda prompts, **_: [0.0] * len(prompts),
            k=2,
            reward_bounds=(0, 1),
            max_tokens=2,
            experts=[word + last],
            out=tmp_path / "ref.parquet",
        )


def test_dropout_of_a_model_in_training_does_not_count(tiny):
    config = transformers.GPT2Config(
        vocab_size=len(tiny.tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64
    )
    model = from_transformers(transformers.GPT2LMHeadModel(config), tiny.tokenizer)
    prompts, responses = [LONG] * 6, CANDIDATES[0]

    def everything():
        scores = compare_models(model, model, prompts, responses)
        law = enumerate_law(model, [LONG], [responses])
        model.model.zero_grad()
        law().sum().backward()
        return {
            "scores": score_responses(model, prompts, responses),
            "log_p": scores.log_p,
            "kl": scores.kl,
            "law": law.measured(),
            "gradient": model.head.weight.grad.numpy().copy(),
            "draws": sample_responses(model, prompts, max_tokens=4, seed=0),
        }

    expected = everything()
    assert np.abs(expected["gradient"]).max() > 0
    model.model.train()
    model.model.transformer.h[0].eval()  # a frozen part stays as it is
    modes = [module.training for module in model.model.modules()]
    found = everything()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert [module.training for module in model.model.modules()] == modes


def test_an_error_leaves_the_model_in_training(model):
    model.model.train()
    with pytest.raises(IndexError):
        draw(model, [[10**6]], 2, 0)
    assert model.model.training and model.causal.generation_config.do_sample is not True


def blind_to_padding(model):
    """Padding is read as a part of the prompt."""

    def forward(module, args, kwargs):
        kept = {key: value for key, value in kwargs.items() if key != "attention_mask"}
        return args, kept

    model.causal.register_forward_pre_hook(forward, with_kwargs=True)
    return model


def drawn_by_itself(model, texts, caplog):
    prompts = tokens_of_prompts(model.tokenizer, texts)
    by_itself = draw(model, prompts, 2, 0, rows_at_once=1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert draw(model, prompts, 2, 0, rows_at_once=4) == by_itself
    assert "another law; responses are drawn one at a time" in caplog.text


def test_what_ignores_padding_is_drawn_by_itself(model, caplog):
    drawn_by_itself(blind_to_padding(model), [SHORT, LONG] * 4, caplog)


def test_padding_that_comes_late_is_seen(model, caplog):
    """The first batch has none, in which this model is right."""
    drawn_by_itself(blind_to_padding(model), [LONG] * 4 + [SHORT, LONG] * 2, caplog)
    prompts = tokens_of_prompts(model.tokenizer, [LONG] * 4)
    assert draw(model, prompts, 2, 0, 4) != draw(model, prompts, 2, 0, 1)


@pytest.mark.slow  # two architectures
@pytest.mark.parametrize("architecture", [rwkv, recurrent_gemma])
def test_architectures_that_are_wrong_in_a_batch(tiny, architecture, caplog):
    drawn_by_itself(architecture(tiny.tokenizer), [SHORT, LONG] * 4, caplog)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_generate_of_another_law_is_refused(model, dtype, caplog):
    model.model.to(dtype)
    prompts = tokens_of_prompts(model.tokenizer, [SHORT, LONG] * 4)
    draw(model, prompts, 4, 0)
    assert not caplog.records
    model.head.register_forward_hook(lambda head, given, logits: 2 * logits)
    with pytest.raises(ModelError, match=r"one response at a time, too; choose another model"):
        draw(model, prompts, 4, 0)


def test_a_fault_that_comes_with_length_is_seen(model):
    """The first prompts are too short for it, as for a window of attention."""
    short, long = tokens_of_prompts(model.tokenizer, [SHORT, LONG])
    lengths = []

    def forward(module, args, kwargs):
        lengths.append(int(kwargs["position_ids"].max()) + 1)

    model.causal.register_forward_pre_hook(forward, with_kwargs=True)
    model.head.register_forward_hook(
        lambda head, given, logits: logits * (3 if lengths[-1] >= len(long) else 1)
    )
    assert len(short) + 2 < len(long)
    draw(model, [short] * 8, 2, 0, 4)
    with pytest.raises(ModelError, match="another law"):
        draw(model, [short] * 8 + [long] * 4, 2, 0, 4)


def test_few_responses_are_looked_at(model, monkeypatch):
    looked = []

    def log_probs(language_model, pairs, rows_at_once):
        looked.append([len(pair.prompt) for pair in pairs])
        return from_scoring(language_model, pairs, rows_at_once)

    from nondecoupling.lm import sampling

    from_scoring = sampling.log_probs
    monkeypatch.setattr(sampling, "log_probs", log_probs)
    short, long = tokens_of_prompts(model.tokenizer, [SHORT, LONG])
    draw(model, [long] * 8 + [short, long] * 8, 1, 0, 4)
    assert looked == [[len(long)] * 4, [len(short)] * 2 + [len(long)] * 2]


def test_a_text_is_no_list_of_texts(model):
    one = pytest.raises(ResponseError, match="is one text: give a list of texts")
    with one:
        sample_responses(model, LONG, max_tokens=2, seed=0)
    with one:
        score_responses(model, LONG, list(LONG))
    with one:
        score_responses(model, list(" yes."), " yes.")
    with one:
        compare_models(model, model, LONG, LONG)
    with one:
        enumerate_law(model, [LONG], [" yes."])
    with one:
        enumerate_law(model, LONG, [[" yes."]])


@pytest.mark.parametrize("rows_at_once", [0, -1, 2.5])
def test_rows_at_once_is_a_number_of_rows(model, rows_at_once):
    wrong = pytest.raises(ValueError, match=f"rows_at_once={rows_at_once}")
    with wrong:
        sample_responses(model, [LONG], max_tokens=2, seed=0, rows_at_once=rows_at_once)
    with wrong:
        score_responses(model, [LONG], [" yes."], rows_at_once=rows_at_once)
    with wrong:
        compare_models(model, model, [LONG], [" yes."], rows_at_once=rows_at_once)


def test_a_prompt_of_unknown_words_is_refused(model, tmp_path):
    unknown = pytest.raises(ResponseError, match="no token for a part of the prompt 'Is purple")
    with unknown:
        sample_responses(model, ["Is purple?"], max_tokens=2, seed=0)
    with unknown:
        score_responses(model, ["Is purple?"], [" yes."])
    with unknown:
        enumerate_law(model, ["Is purple?"], [[" yes."]])
    # A text may name the token itself, and the token may have other uses: GPT-2 has one for all.
    assert sample_responses(model, ["Is<unk>"], max_tokens=2, seed=0)
    model.tokenizer.eos_token = model.tokenizer.unk_token
    assert sample_responses(model, ["Is purple?"], max_tokens=2, seed=0)


def in_mixed_precision(module):
    """Its ``forward`` as accelerate's ``prepare_model`` leaves it on a model that a trainer with bf16=True has had."""
    from accelerate.utils import convert_outputs_to_fp32

    module._original_forward = module.forward
    autocast = torch.autocast("cpu", torch.bfloat16)
    module.forward = convert_outputs_to_fp32(autocast(module.forward))
    return module.forward


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_a_model_that_a_trainer_has_had_is_still_itself(model, weights):
    model.model.to(weights)
    prompts = [LONG] * 8
    drawn = sample_responses(model, prompts, max_tokens=4, seed=0)
    law = score_responses(model, [LONG], [CANDIDATES[0][0]])
    left = in_mixed_precision(model.model)
    again = from_transformers(model.model, model.tokenizer)
    assert sample_responses(again, prompts, max_tokens=4, seed=0) == drawn
    np.testing.assert_array_equal(score_responses(again, [LONG], [CANDIDATES[0][0]]), law)
    assert model.model.forward is left


def test_the_remedy_for_a_response_that_ends_in_an_end_of_the_model(model):
    word = model.tokenizer.decode([5])
    model.causal.generation_config.eos_token_id = [1, 5]
    with pytest.raises(ResponseError, match="so that responses end in it"):
        score_responses(model, [LONG], [word])


PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


@pytest.mark.parametrize(
    ("given", "own", "named"),
    [
        ({}, {}, {}),
        ({}, {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "repetition_penalty": 1.05}, {}),
        ({}, {"max_length": 99, "length_penalty": 2.0, "chat_format": "chatml"}, {}),
        ({"temperature": 0.5}, {}, {"temperature": (0.5, 1.0)}),
        ({"top_k": None}, {"top_k": 1}, {"top_k": (1, 0)}),
        ({}, {"min_p": 0.5}, {"min_p": (0.5, None)}),
        ({"min_p": 0.0}, {"min_p": 0.5}, {}),
        ({}, {"typical_p": 0.5}, {"typical_p": (0.5, 1.0)}),
        ({}, {"suppress_tokens": [4]}, {"suppress_tokens": ([4], None)}),
        ({"min_new_tokens": 1}, {}, {"min_new_tokens": (1, None)}),
        ({}, {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": (1, 0)}),
        ({"guidance_scale": 1.0}, {}, {}),
        ({"eos_token_id": [1]}, {}, {}),
    ],
)
def test_options_of_another_law_are_those_by_which_generate_changes_the_logits(
    model, given, own, named
):
    given = PLAIN | given
    for name, value in own.items():
        setattr(model.causal.generation_config, name, value)
    assert options_of_another_law(model, given) == named
    tokens = torch.tensor([model.tokenizer(LONG)["input_ids"]])
    drawn = model.causal.generate(
        tokens,
        generation_config=transformers.GenerationConfig(do_sample=True, max_new_tokens=1, **given),
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    assert torch.equal(drawn.scores[0], drawn.logits[0]) is (not named)
    assert model.causal.generation_config.do_sample is None  # as it was


def test_what_neither_trainer_nor_model_names_is_generates_own(model):
    assert options_of_another_law(model, {}) == {"top_k": (50, 0)}
    assert options_of_another_law(model, PLAIN | {"do_sample": False}) == {
        "do_sample": (False, True)
    }


def test_another_engine_takes_nothing_from_the_model(model):
    model.causal.generation_config.suppress_tokens = [4]
    assert options_of_another_law(model, PLAIN | {"top_k": -1}, by_generate=False) == {}
    assert options_of_another_law(model, PLAIN | {"seed": 0}, by_generate=False) == {
        "seed": (0, None)
    }


def test_ends_are_compared_as_sets(model):
    model.causal.generation_config.eos_token_id = [1, 5]
    assert options_of_another_law(model, PLAIN | {"eos_token_id": [5, 1, 5]}) == {}
    for ends in (1, [5], [1, 4, 5]):
        given = PLAIN | {"eos_token_id": ends}
        assert options_of_another_law(model, given) == {"eos_token_id": (ends, [1, 5])}


@pytest.mark.parametrize(
    "harmless",
    [
        *[{"frequency_penalty": 0.0}, {"stop": []}, {"bad_words": []}, {"ignore_eos": False}],
        *[{"n": 1}, {"logprobs": 1}, {"prompt_logprobs": 1}, {"max_tokens": 32}],
        *[{"skip_special_tokens": False}, {"detokenize": True}, {"output_kind": 2}],
    ],
)
def test_options_of_vllm_that_are_off_or_of_its_output_change_no_law(model, harmless):
    assert options_of_another_law(model, PLAIN | harmless, by_generate=False) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("frequency_penalty", 0.1), ("stop", ["."]), ("ignore_eos", True), ("min_tokens", 1)],
)
def test_options_of_vllm_that_are_on_are_named(model, name, value):
    given = PLAIN | {name: value}
    assert options_of_another_law(model, given, by_generate=False) == {name: (value, None)}
