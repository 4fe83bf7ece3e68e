"""Language models so small that they train in seconds on a CPU, with a vocabulary made for given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from nondecoupling.lm.errors import ModelError
from nondecoupling.lm.language_model import LanguageModel, from_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TINY_FAMILIES", "TINY_INITIALIZER_RANGE", "tiny_model", "tiny_qwen3", "word_tokenizer"]

# 0.02, the default of most architectures, leaves so small a model stuck far from the optimum.
TINY_INITIALIZER_RANGE = 0.1
CONTEXT = 64
ATTENTION = {
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
# Family -> (class in transformers, what its configuration has of its own).
TINY_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3", ATTENTION),
    "llama": ("Llama", ATTENTION),
    "gemma2": ("Gemma2", ATTENTION),
    "mamba2": (
        "Mamba2",
        {"state_size": 16, "head_dim": 16, "num_heads": 8, "n_groups": 1, "chunk_size": 32},
    ),
    "falcon-h1": (
        "FalconH1",
        ATTENTION
        | {
            "mamba_d_ssm": 64,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 16,
            "mamba_chunk_size": 32,
        },
    ),
}


def tiny_qwen3(texts: Sequence[str], seed: int) -> LanguageModel:
    """``tiny_model`` of the family "qwen3".

    Example:
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> model.tokenizer(" Yes.")["input_ids"]
        [7, 3]
    """
    return tiny_model("qwen3", texts, seed)


def tiny_model(family: str, texts: Sequence[str], seed: int) -> LanguageModel:
    """2 layers, hidden size 64, random weights from ``seed``; its words are those of ``texts``.

    ``family``: "qwen3", "llama", "gemma2" (attention), "mamba2" (state space), "falcon-h1" (both). Where attention has
    a context, it is the least multiple of 64 that has room for two of the longest of ``texts``, a prompt and a
    response, and the end.

    Raises:
        ModelError: the family is unknown.

    Example:
        >>> tiny_model("mamba2", ["Is it red?", " Yes.", " No."], seed=0).description.split(",")[0]
        'Mamba2 architecture'
    """
    import transformers

    if family not in TINY_FAMILIES:
        raise ModelError(f"family is {family!r}; it is one of {', '.join(TINY_FAMILIES)}")
    name, own = TINY_FAMILIES[family]
    torch.manual_seed(seed)
    texts = sorted(set(texts))
    tokenizer = word_tokenizer(texts)
    longest = max(map(len, tokenizer(texts)["input_ids"])) if texts else 1
    context = CONTEXT * -(-(2 * longest + 1) // CONTEXT)
    limits = {"max_position_embeddings": context} if "num_attention_heads" in own else {}
    if family == "gemma2":
        limits["sliding_window"] = context
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        initializer_range=TINY_INITIALIZER_RANGE,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **own,
        **limits,
    )
    model = getattr(transformers, f"{name}ForCausalLM")(config).float()
    size = sum(p.numel() for p in model.parameters())
    description = (
        f"{name} architecture, 2 layers, hidden size 64, {size:,} parameters, random weights, "
        f"word-level vocabulary of {len(tokenizer)}"
    )
    return from_transformers(model, tokenizer, description)


def word_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
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
