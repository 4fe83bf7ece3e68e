"""A model that cannot be trusted ends the program with status 2 and a message, and leaves no run folder."""

import copy
import json

import pytest
import qwen_validate
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertLMHeadModel
from validate.configuration import configuration
from validate.enumerated.facts import vocabulary_texts
from validate.models import model_of_run
from validate.sampled.sentences import load_sentences
from validate.sampled.task import make_task

from nondecoupling.lm import ModelError, load_model, tiny_qwen3


@pytest.fixture
def saved(tmp_path):
    tiny = tiny_qwen3(
        [*vocabulary_texts(), *make_task(load_sentences("grammar"), 300, 5, 0).texts], seed=0
    )
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def no_head(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")


def an_encoder(folder):
    config = BertConfig(
        vocab_size=len(load_model(folder).tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.2,
    )
    BertLMHeadModel(config).save_pretrained(folder)


def an_appended_end(folder):
    tokenizer = load_model(folder).tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(folder)


@pytest.mark.slow  # saves and loads a model
@pytest.mark.parametrize("protocol", ["enumerated", "sampled"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_head, "lacks weights that the model needs"),
        (an_adapter, "holds an adapter"),
        (an_encoder, "BertLMHeadModel is no causal model"),
    ],
)
def test_it_is_named_and_nothing_begins(protocol, damage, words, saved, tmp_path, capsys):
    damage(saved)
    out = tmp_path / "run"
    given = ["--model", str(saved), "--protocol", protocol, "--out", str(out)]
    assert qwen_validate.main(given) == qwen_validate.EXIT_USAGE
    assert words in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow  # saves and loads a model
def test_rl_on_other_prompts_than_are_measured_is_refused(saved, tmp_path, capsys):
    """The enumerated protocol tokenises for itself; TRL's trainers do not."""
    an_appended_end(saved)
    given = ["--model", str(saved), "--protocol", "sampled", "--out", str(tmp_path / "run")]
    assert qwen_validate.main(given) == qwen_validate.EXIT_USAGE
    assert "a trainer would see another prompt than is measured" in capsys.readouterr().err


@pytest.mark.slow  # saves and loads a model
def test_a_model_of_which_nothing_would_be_trained_is_refused(saved, monkeypatch):
    frozen = copy.deepcopy(load_model(saved))
    for parameter in frozen.model.parameters():
        parameter.requires_grad_(False)
    monkeypatch.setattr("validate.models.load_model", lambda name: frozen)
    config = configuration({"model": str(saved), "training": "full"})
    with pytest.raises(ModelError, match="no parameter would be trained"):
        model_of_run(config, [])


@pytest.mark.slow  # saves and loads a model
def test_what_is_refused_is_otherwise_accepted(saved):
    config = configuration({"model": str(saved), "training": "full"})
    model = model_of_run(config, [])
    assert model.trainable and torch.isfinite(model.head.weight).all()
    assert json.loads((saved / "config.json").read_text())["model_type"] == "qwen3"
