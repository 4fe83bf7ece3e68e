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

import numpy as np
import torch
from torch import Tensor, nn

from nondecoupling.kernels import token_stats
from validate.enumerated.facts import Prompt
from validate.enumerated.tolerances import enumeration_tolerance
from validate.enumerated.tries import LAYOUTS, Batch, Encoded, encode, make_batch
from validate.models import LanguageModel, ModelError

__all__ = ["Policy", "choose_layout", "law_one_at_a_time"]


class Policy(nn.Module):
    """``policy()`` is log p, [prompts, candidates + 1] in float64, differentiable; `other` is last.

    The law is that of the model as it is: to train it, train ``policy.model``.
    """

    def __init__(
        self, language_model: LanguageModel, encoded: Sequence[Encoded], layout: str
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
            softcap=self.language_model.softcap,
            exclude=b.siblings,
        )
        assert stats.logsumexp_rest is not None
        candidates = (b.to_candidates @ stats.logprob).reshape(-1, b.candidates)
        prefix = b.to_nodes @ stats.logprob
        leave = (stats.logsumexp_rest - stats.logsumexp).index_select(0, b.first_edge)
        leaves = torch.cat([prefix + leave, leave.new_full((1,), -torch.inf)])
        other = leaves[b.nodes_of_prompt].logsumexp(dim=1, keepdim=True)
        return torch.cat([candidates, other], dim=1)

    def measured(self) -> np.ndarray:
        """The law as an array, outside of autograd."""
        with torch.no_grad():
            return self().cpu().numpy()


def law_one_at_a_time(language_model: LanguageModel, prompt: Prompt) -> np.ndarray:
    """log p of each candidate from the model's own logits, one sequence at a time, without a trie.

    The other route to the same numbers: it guards the attention mask, the positions and the treatment of the head.
    """
    start, responses = encode(language_model.tokenizer, prompt)
    result = []
    with torch.no_grad():
        for response in responses:
            tokens = torch.tensor([start + response], device=language_model.device)
            logits = language_model.causal(input_ids=tokens, use_cache=False).logits.double()
            steps = torch.log_softmax(logits[0, len(start) - 1 : -1], dim=-1)
            picked = steps.gather(1, tokens[0, len(start) :, None])
            result.append(float(picked.sum()))
    return np.array(result)


def choose_layout(
    language_model: LanguageModel, prompt: Prompt, layouts: Sequence[str] = tuple(LAYOUTS)
) -> tuple[str, float, float]:
    """The first layout whose law agrees with the model's own logits on ``prompt``; difference and allowance in nats.

    Raises:
        ModelError: none does, so that no law of this model can be trusted.
    """
    plain = law_one_at_a_time(language_model, prompt)
    depth = language_model.causal.config.get_text_config().num_hidden_layers
    eps = torch.finfo(language_model.head.weight.dtype).eps
    encoded, found = encode(language_model.tokenizer, prompt), []
    for layout in layouts:
        try:
            law = Policy(language_model, [encoded], layout).measured()[0]
        except (RuntimeError, TypeError, ValueError) as error:
            # Architectures without attention may not even accept its mask.
            found.append(f"{layout}: {str(error).splitlines()[0]}")
            continue
        difference = float(np.abs(law[:-1] - plain).max())
        allowed = enumeration_tolerance(law, depth, eps)
        if difference <= allowed:
            return layout, difference, allowed
        found.append(f"{layout}: off by {difference:.3g} nats, allowed {allowed:.3g}")
    raise ModelError(
        f"the enumerated law differs from the logits of the model ({'; '.join(found)}): this architecture maps "
        "hidden states to logits in a way that is not supported; choose another --model"
    )
