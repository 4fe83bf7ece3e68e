"""A language model so small that it trains in seconds on a CPU, with a vocabulary made for given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from nondecoupling.lm.language_model import LanguageModel, from_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TINY_INITIALIZER_RANGE", "tiny_qwen3", "word_tokenizer"]

# 0.02, the default of the architecture, leaves so small a model stuck far from the optimum.
TINY_INITIALIZER_RANGE = 0.1
CONTEXT = 64


def tiny_qwen3(texts: Sequence[str], seed: int) -> LanguageModel:
    """Qwen3 architecture, 2 layers, hidden size 64, random weights from ``seed``; its words are those of ``texts``.

    The context is the least multiple of 64 that has room for two of the longest of them, a prompt and a
    response, and the end.

    Example:
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> model.tokenizer(" Yes.")["input_ids"]
        [7, 3]
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    texts = sorted(set(texts))
    tokenizer = word_tokenizer(texts)
    longest = max(map(len, tokenizer(texts)["input_ids"])) if texts else 1
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT * -(-(2 * longest + 1) // CONTEXT),
        initializer_range=TINY_INITIALIZER_RANGE,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).float()
    size = sum(p.numel() for p in model.parameters())
    description = (
        f"Qwen3 architecture, 2 layers, hidden size 64, {size:,} parameters, random weights, "
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
