"""The model of a run: the tiny one of this program, or what ``nondecoupling.lm`` loads; whole or with LoRA."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nondecoupling.lm import LanguageModel, load_model, tiny_qwen3, with_lora
from validate.presets import TINY

__all__ = ["model_of_run"]


def model_of_run(name: str, seed: int, texts: Sequence[str], training: str) -> LanguageModel:
    """The model that ``--model name`` asks for, on the GPU if there is one.

    The random numbers of a tiny model or of LoRA come from ``seed``; the vocabulary of a tiny model is that of
    ``texts``. ``training`` is "full" (all parameters) or "lora".

    Raises:
        ModelError: the model is missing, unreadable, or has no end-of-sequence token.
    """
    torch.manual_seed(seed)
    if name == TINY:
        torch.set_num_threads(1)  # so small a model is several times slower on two
        language_model = tiny_qwen3(texts, seed)
    else:
        language_model = load_model(name)
    if training == "lora":
        language_model = with_lora(language_model)
    else:
        language_model.description += "; all parameters trained"
    # A checkpoint's own settings (Qwen3 samples at temperature 0.6 from 20 tokens) are not the policy's law, and
    # trainers start from them.
    language_model.causal.generation_config = language_model.plain_sampling(max_tokens=20)
    language_model.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return language_model
