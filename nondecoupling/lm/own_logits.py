"""Whether the law that is scored is the one that the model samples from: its own logits decide.

Scores apply the head to hidden states. Architectures differ in what they do around that, and one that does something
unknown would be off by nats without a sign. So every model is asked for its own logits once, on a few tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nondecoupling.kernels import token_stats
from nondecoupling.lm.errors import ModelError

if TYPE_CHECKING:
    from nondecoupling.lm.language_model import LanguageModel

__all__ = ["check_own_logits"]

PROBE_LENGTH = 6
# Roundings that a logit goes through, each of half an eps or less: the product, the scale, the cap, the sum.
ROUNDINGS = 8
HALF = (torch.bfloat16, torch.float16)
ROWS_AT_ONCE = 8192  # of the head in float32


def check_own_logits(language_model: LanguageModel) -> None:
    """Compare the scores of a few tokens with the model's own logits.

    Raises:
        ModelError: the model looks at later tokens, has an encoder, or maps hidden states to logits in an unknown way.
    """
    causal = language_model.causal
    kind = type(causal).__name__
    if getattr(causal.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{kind} has an encoder for its prompt, which is not supported; choose a decoder-only model "
            "(AutoModelForCausalLM)"
        )
    if causal.get_output_embeddings() is None:
        raise ModelError(
            f"{kind} has no output embeddings, so it gives no law over tokens; choose a *ForCausalLM model"
        )
    head = language_model.head
    tokens = _probe(language_model)
    with torch.no_grad(), _understood(kind):
        logits = _own_logits(language_model, tokens)
        own, kept = logits.double(), logits.dtype
        # Another last token in a sequence of the same length: the same sums in the same order everywhere before it.
        other = torch.cat([tokens[:, :-1], tokens[:, :1]], dim=1)
        before = _own_logits(language_model, other)[:-1].double()
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        hidden = language_model.hidden_states(tokens, None, positions)[0]
        fits = (own.shape[-1], hidden.shape[-1]) == head.weight.shape
        if not fits or not len(own) == len(hidden) == tokens.shape[1]:
            raise ModelError(
                f"{kind} gives logits of shape {tuple(own.shape)} from hidden states of shape "
                f"{tuple(hidden.shape)}, which its head {tuple(head.weight.shape)} cannot; choose another model"
            )
        allowed = _allowed(language_model, hidden, own, kept)
        # Elsewhere in the network the other token may change the order of sums, as where experts take tokens together.
        by_order = _allowed(language_model, hidden, own, head.weight.dtype)
        laws = torch.log_softmax(own, dim=-1)
        later = float((laws[:-1] - torch.log_softmax(before, dim=-1)).abs().max())
        if not later <= by_order:
            raise ModelError(
                f"{kind} is no causal model: what it says of a token changes by {later:.3g} nats with the tokens that "
                "follow, as in an encoder; choose a decoder-only model"
            )
        # The token that follows, and the likeliest: a wrong scale or cap moves the second even where logits are small.
        for targets in (torch.cat([tokens[0, 1:], tokens[0, :1]]), own.argmax(dim=-1)):
            found = token_stats(
                hidden,
                head.weight,
                targets,
                bias=getattr(head, "bias", None),
                **language_model.logit_options,
            ).logprob.double()
            difference = float((found - laws.gather(1, targets[:, None])[:, 0]).abs().max())
            if not difference <= allowed:
                raise ModelError(
                    f"{kind} maps hidden states to logits in a way that is not supported: scores would be off by "
                    f"{difference:.3g} nats (allowed {allowed:.3g}); choose a model whose logits are its output "
                    "embeddings, times a scale or capped"
                )


@contextmanager
def _understood(kind: str) -> Iterator[None]:
    """
    Raises:
        ModelError: the architecture does not take the call, or answers it in another way.
    """
    try:
        yield
    except ModelError:
        raise
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(
            f"{kind} cannot be asked for hidden states and logits as other models can ({type(error).__name__}: "
            f"{error}); choose another model"
        ) from error


def _own_logits(language_model: LanguageModel, tokens: Tensor) -> Tensor:
    """[length, V], what the whole model says, adapters' wrapper included.

    The product with the head is one of float32 where its weights are less: there, a rounded logit could hide a scale.
    """
    head = language_model.head
    if head.weight.dtype not in HALF:
        return language_model.model(input_ids=tokens, use_cache=False).logits[0]

    def in_full(module: nn.Module, given: tuple[Tensor, ...], rounded: Tensor) -> Tensor:
        hidden, bias = given[0].float(), getattr(head, "bias", None)
        some = [functional.linear(hidden, rows.float()) for rows in head.weight.split(ROWS_AT_ONCE)]
        product = torch.cat(some, dim=-1)
        return product if bias is None else product + bias.float()

    hook = head.register_forward_hook(in_full)
    try:
        return language_model.model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        hook.remove()


def _probe(language_model: LanguageModel) -> Tensor:
    """[1, length], ids that are spread over the vocabulary and mean nothing special."""
    special = set(language_model.tokenizer.all_special_ids)
    embeddings = cast("nn.Embedding", language_model.causal.get_input_embeddings())
    size = int(embeddings.weight.shape[0])
    plain = [token for token in range(size) if token not in special] or list(range(size))
    step = max(1, len(plain) // PROBE_LENGTH)
    some = (plain[::step] * PROBE_LENGTH)[
        : min(PROBE_LENGTH, language_model.context or PROBE_LENGTH)
    ]
    return torch.tensor([some], device=language_model.device)


def _allowed(
    language_model: LanguageModel, hidden: Tensor, own: Tensor, dtype: torch.dtype
) -> float:
    """How far two roundings of the same logits may move a log-probability, in nats.

    The hidden states are the same. A logit is a product of D terms, summed in float32 or better in an unknown order
    (sqrt(D) eps32 |h| |w|), and rounded to ``dtype`` (eps |z|) a few times.
    """
    weight = language_model.head.weight
    size = float(hidden.double().norm(dim=-1).max() * weight.detach().float().norm(dim=-1).max())
    size /= language_model.logit_options["temperature"]
    summed = math.sqrt(weight.shape[1]) * torch.finfo(torch.float32).eps * size
    rounded = torch.finfo(dtype).eps * (1 + float(own.abs().max()))
    return ROUNDINGS * (summed + rounded)
