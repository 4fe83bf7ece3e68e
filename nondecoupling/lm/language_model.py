"""A causal language model with its tokenizer, split where the token statistics need it: hidden states and head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

import torch
from torch import Tensor, nn

from nondecoupling.lm.adapters import refuse_adapted_head, refuse_unscorable
from nondecoupling.lm.errors import ModelError, ResponseError
from nondecoupling.lm.own_logits import check_own_logits

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LanguageModel", "LogitOptions", "State", "evaluating", "from_transformers"]

# What architectures call the factor, the divisor and the cap of their logits.
SCALES = ("logit_scale", "lm_head_multiplier")
DIVISORS = ("logits_scaling",)
CAPS = ("final_logit_softcapping", "logits_soft_cap")
# Layers between the decoder and the head: of BERT and its kin, and of Electra, as decoders.
LAYERS_BEFORE_THE_HEAD = ("cls.predictions.transform", "generator_predictions")

State = dict[str, Tensor]
"""The values of the parameters that training changes, by name: a policy, given the rest of the model."""


class LogitOptions(TypedDict):
    """The options of the kernels: logits are softcap tanh(z / softcap) / temperature."""

    temperature: float
    softcap: float | None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model's own policy: in evaluation mode, as dropout would make it random, and without a training's autocast.

    Accelerate leaves its own ``forward``, of mixed precision, on a model that a trainer has had. Each module's own mode
    and ``forward`` come back.
    """
    modes = [(module, module.training) for module in model.modules()]
    mixed = [
        (module, vars(module)["forward"])
        for module, _ in modes
        if {"forward", "_original_forward"} <= vars(module).keys()
    ]
    for module, _ in mixed:
        module.forward = vars(module)["_original_forward"]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, forward in mixed:
            module.forward = forward
        for module, training in modes:
            module.training = training


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
        """The ``*ForCausalLM`` module, inside its LoRA wrapper if there is one.

        Raises:
            ModelError: PEFT's wrapper does more than to hold the module, as prompt tuning does.
        """
        refuse_unscorable(self.model)
        base = getattr(self.model, "get_base_model", None)
        return cast("PreTrainedModel", self.model if base is None else base())

    def hidden_states(self, tokens: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """[B, L, D], what enters the head, in evaluation mode.

        ``mask`` is [B, 1, L, L], 0 where attention is allowed; without one the rows are plain sequences, padded
        on the right.
        """
        given = {} if mask is None else {"attention_mask": mask, "position_ids": positions}
        with evaluating(self.model):
            output = self.causal.get_decoder()(input_ids=tokens, use_cache=False, **given)
            hidden = output.last_hidden_state
            for layer in self._layers_before_the_head:
                hidden = layer(hidden)
        return hidden

    @property
    def _layers_before_the_head(self) -> list[nn.Module]:
        named = dict(self.causal.named_modules())
        return [named[name] for name in LAYERS_BEFORE_THE_HEAD if name in named]

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, from hidden states to logits.

        Raises:
            ModelError: it has an adapter.
        """
        head = self.causal.get_output_embeddings()
        refuse_adapted_head(head)
        return head

    @property
    def logit_options(self) -> LogitOptions:
        """What the architecture does to z = W h + b: c tanh(s z / c) with a scale s and a cap c, if it has them."""
        config = self.causal.config.get_text_config()
        scale = 1.0
        for name in SCALES:
            scale *= float(getattr(config, name, None) or 1.0)
        for name in DIVISORS:
            scale /= float(getattr(config, name, None) or 1.0)
        caps = [float(cap) for name in CAPS if (cap := getattr(config, name, None))]
        # The kernels cap first and divide then.
        return {"temperature": 1 / scale, "softcap": caps[0] / scale if caps else None}

    @property
    def context(self) -> int | None:
        """The longest sequence that the architecture takes, if it names one."""
        return getattr(self.causal.config.get_text_config(), "max_position_embeddings", None)

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder layers, which are sharded one by one."""
        names = set(self.causal._no_split_modules or ())
        return [module for module in self.causal.modules() if type(module).__name__ in names]

    @property
    def ends(self) -> list[int]:
        """The tokens that end a response: the tokenizer's end-of-sequence token, then others of the model's own.

        An instruction-tuned model has others in its ``generation_config``, such as an end of turn; TRL's trainers end
        responses at each of them, too.
        """
        own = getattr(self.causal.generation_config, "eos_token_id", None)
        others = own if isinstance(own, list) else [] if own is None else [own]
        return list(dict.fromkeys([self.tokenizer.eos_token_id, *others]))

    def require_one_end(self, text: str, response: Sequence[int]) -> None:
        """
        Raises:
            ResponseError: ``response``, the tokens of ``text``, goes on past a token that ends it.
        """
        for token in response[:-1]:
            if token in self.ends:
                end = self.tokenizer.convert_ids_to_tokens(token)
                remedy = "leave it out, or make it the tokenizer's eos_token"
                if token == response[-2]:
                    remedy = "make it the tokenizer's eos_token, so that responses end in it"
                raise ResponseError(
                    f"the response {text!r} goes on past {end!r}, at which this model's responses end "
                    f"(generation_config.eos_token_id): {remedy}"
                )

    def plain_sampling(self, max_tokens: int) -> GenerationConfig:
        """Draws from the model's own law: temperature 1, the whole vocabulary, nothing penalised."""
        from transformers import GenerationConfig

        ends, end = self.ends, self.tokenizer.eos_token_id
        return GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            eos_token_id=ends if len(ends) > 1 else end,
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

    The model is put into evaluation mode: dropout would make the policy random. Nothing else about it changes. Its own
    logits on a few tokens are compared with the scores that this package computes from its hidden states.

    Raises:
        ModelError: the tokenizer names no end-of-sequence token or has tokens that the model lacks, a weight is no
            number, or scores would not be those of the model's own logits, as where an adapter is on the head.

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
    made = LanguageModel(model, tokenizer, description or f"{kind}, {size:,} parameters")
    _check_weights(made)
    with evaluating(model):
        check_own_logits(made)
    return made


def _check_weights(language_model: LanguageModel) -> None:
    """
    Raises:
        ModelError: a weight is infinite or not a number, or a token of plain text or the end has no embedding.
    """
    for name, parameter in language_model.model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"{language_model.description}: the weight {name} holds values that are infinite or not a number; "
                "bring an undamaged checkpoint"
            )
    tokenizer = language_model.tokenizer
    embeddings = cast("nn.Embedding", language_model.causal.get_input_embeddings())
    rows = int(embeddings.weight.shape[0])
    special = set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}
    beyond = [
        token
        for token, index in tokenizer.get_vocab().items()
        if index >= rows and index not in special
    ]
    if beyond:
        raise ModelError(
            f"{language_model.description}: the tokenizer has {len(beyond)} tokens that the model's {rows} embeddings "
            f"lack, {beyond[0]!r} for one; bring the tokenizer of this model"
        )
