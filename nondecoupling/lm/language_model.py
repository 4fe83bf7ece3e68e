"""A causal language model with its tokenizer, split where the token statistics need it: hidden states and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nondecoupling.lm.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LanguageModel", "State", "from_transformers"]

State = dict[str, Tensor]
"""The values of the parameters that training changes, by name: a policy, given the rest of the model."""


@dataclass
class LanguageModel:
    """A causal LM and its tokenizer; ``description`` is the sentence that reports print.

    Made by ``from_transformers``, ``load_model`` and ``tiny_qwen3``.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    description: str

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def causal(self) -> PreTrainedModel:
        """The ``*ForCausalLM`` module, inside its LoRA wrapper if there is one."""
        base = getattr(self.model, "get_base_model", None)
        return cast("PreTrainedModel", self.model if base is None else base())

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
        """The last linear layer, from hidden states to logits."""
        return self.causal.get_output_embeddings()

    @property
    def softcap(self) -> float | None:
        """The cap c of logits c tanh(z / c), if the architecture has one."""
        return getattr(self.causal.config, "final_logit_softcapping", None)

    @property
    def context(self) -> int | None:
        """The longest sequence that the architecture takes, if it names one."""
        return getattr(self.causal.config.get_text_config(), "max_position_embeddings", None)

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder layers, which are sharded one by one."""
        names = set(self.causal._no_split_modules or ())
        return [module for module in self.causal.modules() if type(module).__name__ in names]

    def plain_sampling(self, max_tokens: int) -> GenerationConfig:
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

    def state(self) -> State:
        """A copy of the parameters that training changes."""
        return {name: p.detach().clone() for name, p in self.trainable.items()}

    def restore(self, state: State) -> None:
        """Undo of ``state``: the model is that policy afterwards."""
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state[name])


def from_transformers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    description: str | None = None,
) -> LanguageModel:
    """A model of your own, as ``AutoModelForCausalLM.from_pretrained`` returns it, with its tokenizer.

    The model is put into evaluation mode: dropout would make the policy random. Nothing else about it changes.

    Raises:
        ModelError: the tokenizer names no end-of-sequence token.

    Example:
        >>> from nondecoupling.lm import tiny_qwen3
        >>> tiny = tiny_qwen3(["2 + 2 = 4"], seed=0)
        >>> from_transformers(tiny.model, tiny.tokenizer).description
        'Qwen3ForCausalLM, 75,136 parameters'
    """
    kind, size = type(model).__name__, sum(p.numel() for p in model.parameters())
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {description or kind} names no end-of-sequence token, so no response would end; "
            "set tokenizer.eos_token"
        )
    model.eval()
    return LanguageModel(model, tokenizer, description or f"{kind}, {size:,} parameters")
