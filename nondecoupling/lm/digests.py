"""Digests by which samples are told to come from this model and this tokenizer, or from another."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nondecoupling.lm.adapters import adapters_of
from nondecoupling.lm.errors import CollectError, ModelError
from nondecoupling.lm.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["digest_of", "model_digest", "require_known_scheme", "tokenizer_digest"]

SCHEME = "2:"
# What PEFT puts between the name of a layer and that of its own weight.
WRAPPERS = re.compile(r"\.(base_layer|original_module|token_adapter|modules_to_save\.[^.]+)(?=\.)")
# Names, special tokens, precision, training, and what a forward pass returns besides logits.
NO_LAW = re.compile(
    r"^_|_token_ids?$|drop|^(architectures|transformers_version|dtype|torch_dtype|initializer_range|use_cache|"
    r"tie_word_embeddings|quantization_config|id2label|label2id|num_labels|problem_type|chunk_size_feed_forward|"
    r"return_dict|router_aux_loss_coef|output_\w+|pretraining_tp|task_specific_params|is_llama_config|unsloth\w*)$|"
    r"^transformers\.js"
)

# Cut into tokens by a tokenizer's rules, which its vocabulary does not show.
SAMPLE_TEXT = "Let f(x) = 12.5x;\n\tis f(2)  25? Ça dépend: naïve, 你好, I'm 100% sure."


def model_digest(language_model: LanguageModel) -> str:
    """SHA-256 of what the model's law comes from, after the number of this scheme.

    Of the weights, each rounded to bfloat16: one checkpoint has one digest, whichever way it is loaded. Of the
    configuration, without what changes no law, such as names, special tokens and dropout. Of the adapters that are
    active, with their scaling; not of those that are disabled, merged, or add nothing yet, as LoRA's at the start of a
    training. Of the tokens that end a response.

    Raises:
        ModelError: the weights are not whole in this process (FSDP, ZeRO).

    Example:
        >>> from nondecoupling.lm import tiny_qwen3, with_lora
        >>> plain = tiny_qwen3(["Is it red?"], seed=0)
        >>> model_digest(plain) == model_digest(with_lora(plain))
        True
        >>> model_digest(plain) == model_digest(tiny_qwen3(["Is it red?"], seed=1))
        False
    """
    causal = language_model.causal
    adapters = adapters_of(causal)
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in _parameters_and_buffers(causal):
        if adapters.counts(name) and id(tensor) not in seen:
            seen.add(id(tensor))
            kept[WRAPPERS.sub("", name)] = tensor
    config, ends = _law_config(causal.config.to_dict()), sorted(language_model.ends)
    facts = json.dumps([config, adapters.facts, ends], sort_keys=True)
    return SCHEME + digest_of([*_parts(kept), facts.encode()])


def require_known_scheme(digest: str, place: object) -> None:
    """
    Raises:
        CollectError: a model's digest was written by a version that left configuration and choice of adapters out.
    """
    if not digest.startswith(SCHEME):
        raise CollectError(
            f"{place} was made by an earlier version, whose digest of the model says nothing of its configuration and "
            "of which adapters were active: whether it is from this model cannot be told. Collect again, into another "
            "out; CollectedSamples.read and forecast read it as before"
        )


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


def _parameters_and_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Those that a checkpoint has: other buffers follow from the configuration."""
    yield from model.named_parameters(remove_duplicate=False)
    for place, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set and buffer.numel():
                yield f"{place}.{name}", buffer


def _law_config(value: Any) -> Any:
    """Without what changes no law; numbers as a file of single precision (GGUF) has them."""
    if isinstance(value, dict):
        return {
            str(name): _law_config(inner)
            for name, inner in value.items()
            if not NO_LAW.search(str(name)) and inner is not None
        }
    if isinstance(value, (list, tuple)):
        return [_law_config(inner) for inner in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else f"{value:.6g}"
    return value if isinstance(value, (str, int)) else str(value)


def _parts(weights: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    for name, weight in sorted(weights.items()):
        if type(weight.data) is not Tensor or not weight.numel():
            raise ModelError(
                f"the weight {name} is shared among processes (FSDP, ZeRO), so that no process has the model's law; "
                "use data-parallel training (DDP) or one process"
            )
        plain = weight.detach()
        if plain.is_floating_point():
            plain = plain.to(torch.bfloat16).contiguous().view(torch.int16)
        yield f"{name} {tuple(weight.shape)}\n".encode()
        yield plain.cpu().numpy().tobytes()
