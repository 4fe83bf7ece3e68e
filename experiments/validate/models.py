"""The model of a run: a tiny one made here, or what ``nondecoupling.lm`` loads; whole or with LoRA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nondecoupling.lm import LanguageModel, ModelError, load_model, tiny_model, with_lora
from validate.configuration import TINY_MODELS, RunConfiguration

__all__ = ["model_of_run"]


def model_of_run(config: RunConfiguration, texts: Sequence[str]) -> LanguageModel:
    """The model that the configuration asks for, on the GPU if there is one.

    The vocabulary of a tiny model is that of ``texts``.

    Raises:
        ModelError: the model cannot be loaded or trusted, or nothing of it would be trained.
    """
    torch.manual_seed(config.seed)
    if config.model in TINY_MODELS:
        torch.set_num_threads(1)  # so small a model is several times slower on two
        family = config.model.removeprefix("tiny-")
        language_model = tiny_model(family, texts, config.seed)
    else:
        language_model = load_model(config.model)
    if config.training == "lora":
        language_model = with_lora(language_model)
    else:
        language_model.description += "; all parameters trained"
    if not language_model.trainable:
        raise ModelError(
            f"{language_model.description}: no parameter would be trained; pass a whole model, or --training lora"
        )
    # A checkpoint's own settings (Qwen3 samples at temperature 0.6 from 20 tokens) are not the policy's law, and
    # trainers start from them.
    language_model.causal.generation_config = language_model.plain_sampling(max_tokens=20)
    nn.Module.to(language_model.model, "cuda" if torch.cuda.is_available() else "cpu")
    return language_model
