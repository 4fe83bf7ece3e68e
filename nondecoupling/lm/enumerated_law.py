"""The exact law of a language model over listed responses and the atom `other`.

p(y | x) of a candidate is a product of token probabilities. The rest of the model's mass is one atom,

    log p(other) = logsumexp over trie nodes of [log p(prefix) + log p(a token that continues no candidate | prefix)],

a sum of positive terms: nothing is subtracted and nothing renormalised, so |sum p - 1| is a test of its own.

A response here is a sequence of tokens. The same text cut into other tokens belongs to `other`.

Precision: hidden states are those of the model; the head is applied in float64, and so is everything after it. The
policy that the statements speak about is the law so defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nondecoupling.kernels import token_stats
from nondecoupling.lm.errors import ModelError, ResponseError
from nondecoupling.lm.language_model import LanguageModel
from nondecoupling.lm.tolerances import enumeration_tolerance
from nondecoupling.lm.tries import LAYOUTS, Batch, Candidates, encode, make_batch

__all__ = ["CheckedLayout", "EnumeratedLaw", "choose_layout", "enumerate_law", "law_one_at_a_time"]


def enumerate_law(
    language_model: LanguageModel, prompts: Sequence[str], candidates: Sequence[Sequence[str]]
) -> EnumeratedLaw:
    """The law of the model over the candidate responses of each prompt and `other`, checked against its own logits.

    Raises:
        ResponseError: a prompt has no candidates, or another number of them than the first; two have the same tokens.
        ModelError: the law differs from the model's own logits.

    Example:
        >>> import numpy as np
        >>> from nondecoupling.lm import tiny_qwen3
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> law = enumerate_law(model, ["Is it red?"], [[" Yes.", " No."]])
        >>> np.exp(law.measured()).round(4)
        array([[0.0013, 0.0059, 0.9927]])
    """
    if len(prompts) != len(candidates):
        raise ResponseError(
            f"there are {len(prompts)} prompts and {len(candidates)} lists of candidates; give one list per prompt"
        )
    encoded = [
        encode(language_model.tokenizer, *pair) for pair in zip(prompts, candidates, strict=True)
    ]
    layout = choose_layout(language_model, encoded[0]).layout if encoded else next(iter(LAYOUTS))
    return EnumeratedLaw(language_model, encoded, layout)


class EnumeratedLaw(nn.Module):
    """``law()`` is log p, [prompts, candidates + 1] in float64, differentiable; `other` is last.

    The law is that of the model as it is: to train it, train ``law.model``.
    """

    def __init__(
        self, language_model: LanguageModel, encoded: Sequence[Candidates], layout: str
    ) -> None:
        super().__init__()
        self.model = language_model.model
        self.language_model, self.layout = language_model, layout
        dtype = language_model.head.weight.dtype
        self.batch: Batch = make_batch(encoded, layout, dtype).to(language_model.device)
        self._frozen_head: tuple[Tensor, Tensor | None] | None = None

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in float64; converted once where training leaves the head alone."""
        if self._frozen_head is not None:
            return self._frozen_head
        head = self.language_model.head
        bias = getattr(head, "bias", None)
        double = (head.weight.double(), None if bias is None else bias.double())
        if not head.weight.requires_grad:
            self._frozen_head = double
        return double

    def forward(self) -> Tensor:
        b = self.batch
        hidden = self.language_model.hidden_states(b.tokens, b.mask, b.positions)
        hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, b.source)
        weight, bias = self._head()
        stats = token_stats(
            hidden.double(),
            weight,
            b.target,
            bias=bias,
            exclude=b.siblings,
            **self.language_model.logit_options,
        )
        assert stats.logsumexp_rest is not None
        candidates = (b.to_candidates @ stats.logprob).reshape(-1, b.candidates)
        prefix = b.to_nodes @ stats.logprob
        leave = (stats.logsumexp_rest - stats.logsumexp).index_select(0, b.first_edge)
        leaves = torch.cat([prefix + leave, leave.new_full((1,), -torch.inf)])
        other = leaves[b.nodes_of_prompt].logsumexp(dim=1, keepdim=True)
        return torch.cat([candidates, other], dim=1)

    def measured(self) -> NDArray[np.float64]:
        """The law as an array, outside of autograd."""
        with torch.no_grad():
            return self().cpu().numpy()


def law_one_at_a_time(language_model: LanguageModel, candidates: Candidates) -> NDArray[np.float64]:
    """log p of each candidate from the model's own logits, one sequence at a time, without a trie.

    The other route to the same numbers: it guards the attention mask, the positions and the treatment of the head.
    """
    start, result = candidates.prompt, []
    with torch.no_grad():
        for response in candidates.responses:
            tokens = torch.tensor([start + response], device=language_model.device)
            logits = language_model.causal(input_ids=tokens, use_cache=False).logits.double()
            steps = torch.log_softmax(logits[0, len(start) - 1 : -1], dim=-1)
            picked = steps.gather(1, tokens[0, len(start) :, None])
            result.append(float(picked.sum()))
    return np.array(result)


@dataclass(frozen=True)
class CheckedLayout:
    """A layout of the batch with how far its law lies from the model's own logits, and may lie, in nats."""

    layout: str
    difference: float
    allowed: float


def choose_layout(
    language_model: LanguageModel, candidates: Candidates, layouts: Sequence[str] = tuple(LAYOUTS)
) -> CheckedLayout:
    """The first layout whose law agrees with the model's own logits on one prompt's candidates.

    Raises:
        ModelError: none does, so that no law of this model can be trusted.
    """
    plain = law_one_at_a_time(language_model, candidates)
    depth = language_model.causal.config.get_text_config().num_hidden_layers
    eps = torch.finfo(language_model.head.weight.dtype).eps
    found = []
    for layout in layouts:
        try:
            law = EnumeratedLaw(language_model, [candidates], layout).measured()[0]
        except (RuntimeError, TypeError, ValueError) as error:
            # Architectures without attention may not even accept its mask.
            found.append(f"{layout}: {str(error).splitlines()[0]}")
            continue
        difference = float(np.abs(law[:-1] - plain).max())
        allowed = enumeration_tolerance(law, depth, eps)
        if difference <= allowed:
            return CheckedLayout(layout, difference, allowed)
        found.append(f"{layout}: off by {difference:.3g} nats, allowed {allowed:.3g}")
    raise ModelError(
        f"the enumerated law differs from the logits of the model ({'; '.join(found)}): this architecture maps "
        "hidden states to logits in a way that is not supported; choose another model"
    )
