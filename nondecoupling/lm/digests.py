"""Digests by which samples are told to come from this model and this tokenizer, or from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nondecoupling.lm.errors import ModelError
from nondecoupling.lm.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["digest_of", "model_digest", "tokenizer_digest"]

# Cut into tokens by a tokenizer's rules, which its vocabulary does not show.
SAMPLE_TEXT = "Let f(x) = 12.5x;\n\tis f(2)  25? Ça dépend: naïve, 你好, I'm 100% sure."


def model_digest(language_model: LanguageModel) -> str:
    """SHA-256 of the weights, each rounded to bfloat16: one checkpoint has one digest, whichever way it is loaded.

    LoRA adapters that change nothing yet, as at the start of a training, do not count; others do.

    Raises:
        ModelError: the weights are not whole in this process (FSDP, ZeRO).

    Example:
        >>> from nondecoupling.lm import tiny_qwen3, with_lora
        >>> plain = tiny_qwen3(["Is it red?"], seed=0)
        >>> model_digest(plain) == model_digest(with_lora(tiny_qwen3(["Is it red?"], seed=0)))
        True
        >>> model_digest(plain) == model_digest(tiny_qwen3(["Is it red?"], seed=1))
        False
    """
    named = dict(language_model.causal.named_parameters())
    adapters = [name for name in named if "lora_" in name]
    idle = all(not bool(named[name].any()) for name in adapters if _is_second_factor(name))
    skipped = set(adapters) if idle else set()
    kept: dict[str, Tensor] = {
        name.replace(".base_layer", ""): weight
        for name, weight in named.items()
        if name not in skipped
    }
    return digest_of(_parts(kept))


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary, of the end-of-sequence token, and of the tokens of a text of many kinds."""
    content = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "end": tokenizer.eos_token_id,
        "sample": list(tokenizer(SAMPLE_TEXT)["input_ids"]),
    }
    return digest_of([json.dumps(content).encode()])


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of some bytes in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _is_second_factor(name: str) -> bool:
    """LoRA adds B A, with B = 0 at first."""
    return "lora_B" in name or "lora_embedding_B" in name


def _parts(weights: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    for name, weight in sorted(weights.items()):
        if type(weight.data) is not Tensor or not weight.numel():
            raise ModelError(
                f"the weight {name} is shared among processes (FSDP, ZeRO), so that no process has the model's law; "
                "use data-parallel training (DDP) or one process"
            )
        rounded = weight.detach().to(torch.bfloat16).contiguous().view(torch.int16).cpu()
        yield f"{name} {tuple(weight.shape)}\n".encode()
        yield rounded.numpy().tobytes()
