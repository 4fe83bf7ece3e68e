"""The exact law of a language model over listed responses and the atom `other`.

p(y | x) of a candidate is a product of token probabilities. The rest of the model's mass is one atom,

    log p(other) = logsumexp over trie nodes of [log p(prefix) + log p(a token that continues no candidate | prefix)],

a sum of positive terms: nothing is subtracted and nothing renormalised, so |sum p - 1| is a test of its own. With the
head in less than float64, float32 sums leave up to 1e-6 there; the test is made, and then the law divided by its sum.

A response here is a sequence of tokens. The same text cut into other tokens belongs to `other`.

Precision: hidden states are those of the model. The head is applied in float64, or in float32 or bfloat16, for which a
GPU has a fused kernel; everything after it is float64. In bfloat16 hidden states and the head's weights are rounded to
it, products and sums over the vocabulary are float32. The policy that the statements speak about is the law so defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nondecoupling.kernels import token_stats
from nondecoupling.kernels.head import Head
from nondecoupling.lm.errors import ModelError, ResponseError
from nondecoupling.lm.language_model import LanguageModel, evaluating
from nondecoupling.lm.response_rows import COARSE
from nondecoupling.lm.rope import row_lengths
from nondecoupling.lm.tokens import require_texts
from nondecoupling.lm.tolerances import (
    enumeration_tolerance,
    mass_error,
    mass_tolerance,
    precision_tolerance,
    sums_tolerance,
)
from nondecoupling.lm.tries import (
    LAYOUTS,
    SHARED_PREFIXES,
    Batch,
    Candidates,
    encode,
    make_batch,
    shared_row,
)

__all__ = [
    "PRECISIONS",
    "CheckedLayout",
    "CheckedPrecision",
    "EnumeratedLaw",
    "check_precision",
    "choose_layout",
    "enumerate_law",
    "law_one_at_a_time",
]

# What the head may be applied in.
PRECISIONS = (torch.float64, torch.float32, torch.bfloat16)


def enumerate_law(
    language_model: LanguageModel,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    precision: torch.dtype = torch.float64,
) -> EnumeratedLaw:
    """The law of the model over the candidate responses of each prompt and `other`, checked against its own logits.

    The check is of the prompts that would show a fault of the batch (``choose_layout``).

    Args:
        candidates: the responses to each prompt, as many to each.
        precision: what the head is applied in, ``torch.float64``, ``float32`` or ``bfloat16``; the last two use the
            fused kernel on a GPU. log p moves by what ``check_precision`` allows at most, on the first prompt.

    Raises:
        ResponseError: a prompt has no candidates, or another number of them than the first; two have the same tokens;
            or one goes on past a token that ends it.
        ModelError: the law differs from the model's own logits, or in ``precision`` by more than its rounding; or
            prompts and candidates are so long that positions would depend on the longest of them.
        ValueError: another precision.

    Example:
        >>> import numpy as np
        >>> from nondecoupling.lm import tiny_qwen3
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> law = enumerate_law(model, ["Is it red?"], [[" Yes.", " No."]])
        >>> np.exp(law.measured()).round(4)
        array([[0.0013, 0.0059, 0.9927]])
    """
    require_texts("prompts", prompts)
    for index, texts in enumerate(candidates):
        require_texts(f"candidates[{index}]", texts)
    if len(prompts) != len(candidates):
        raise ResponseError(
            f"there are {len(prompts)} prompts and {len(candidates)} lists of candidates; give one list per prompt"
        )
    encoded = [
        encode(language_model.tokenizer, *pair) for pair in zip(prompts, candidates, strict=True)
    ]
    for texts, one in zip(candidates, encoded, strict=True):
        for text, response in zip(texts, one.responses, strict=True):
            language_model.require_one_end(text, response)
    layout = choose_layout(language_model, encoded).layout if encoded else next(iter(LAYOUTS))
    law = EnumeratedLaw(language_model, encoded, layout, precision)
    if precision != torch.float64:
        check_precision(language_model, encoded, layout, precision)
    return law


class EnumeratedLaw(nn.Module):
    """``law()`` is log p, [prompts, candidates + 1] in float64, differentiable; `other` is last.

    The law is that of the model as it is: to train it, train ``law.model``. Its head is applied in ``precision``; in
    less than float64 the law is divided by its sum, whose logarithm at the last call is ``log_mass`` [prompts].

    Raises:
        ValueError: a precision that is not one of ``PRECISIONS``.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        encoded: Sequence[Candidates],
        layout: str,
        precision: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision is {precision!r}; choose one of {', '.join(map(str, PRECISIONS))}"
            )
        self.model = language_model.model
        self.language_model, self.layout, self.precision = language_model, layout, precision
        dtype = language_model.head.weight.dtype
        self.batch: Batch = make_batch(encoded, layout, dtype).to(language_model.device)
        self.log_mass: Tensor | None = None

    def _converted_head(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as they are now, in the law's precision."""
        weight, bias = self._own_head()
        return weight.to(self.precision), None if bias is None else bias.to(self.precision)

    def _own_head(self) -> tuple[Tensor, Tensor | None]:
        head = self.language_model.head
        return head.weight, getattr(head, "bias", None)

    def forward(self) -> Tensor:
        law = self._law(self._hidden_states(), *self._converted_head())
        if self.precision == torch.float64:
            return law
        log_mass = law.logsumexp(dim=1, keepdim=True)
        self.log_mass = log_mass.detach()[:, 0]
        return law - log_mass

    def _hidden_states(self) -> Tensor:
        """[edges, D], what predicts the token of each edge."""
        b = self.batch
        hidden = self.language_model.hidden_states(b.tokens, b.mask, b.positions)
        return hidden.reshape(-1, hidden.shape[-1]).index_select(0, b.source)

    def _law(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """log p from hidden states and a head, whose dtype is the precision, as it is summed up."""
        b = self.batch
        stats = token_stats(
            hidden.to(weight.dtype),
            weight,
            b.target,
            bias=bias,
            exclude=b.siblings,
            double=True,
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

    def in_both_precisions(self) -> tuple[NDArray[np.float64], NDArray[np.float64], Head]:
        """(log p as it is summed up, log p with the head in float64, that head), from the same hidden states."""
        with torch.no_grad():
            hidden, (weight, bias) = self._hidden_states(), self._own_head()
            found = self._law(hidden, *self._converted_head())
            exact = self._law(hidden, weight.double(), None if bias is None else bias.double())
            head = Head(hidden, weight, bias, **self.language_model.logit_options)
            return found.cpu().numpy(), exact.cpu().numpy(), head


def law_one_at_a_time(language_model: LanguageModel, candidates: Candidates) -> NDArray[np.float64]:
    """log p of each candidate from the model's own logits, one sequence at a time, without a trie.

    The other route to the same numbers: it guards the attention mask, the positions and the treatment of the head.
    """
    start, result = candidates.prompt, []
    with torch.no_grad(), evaluating(language_model.model):
        for response in candidates.responses:
            tokens = torch.tensor([start + response], device=language_model.device)
            logits = language_model.causal(input_ids=tokens, use_cache=False).logits.double()
            steps = torch.log_softmax(logits[0, len(start) - 1 : -1], dim=-1)
            picked = steps.gather(1, tokens[0, len(start) :, None])
            result.append(float(picked.sum()))
    return np.array(result)


@dataclass(frozen=True)
class CheckedLayout:
    """A layout of the batch with how far the first prompt's law lies from the model's own logits, and may lie, in nats.

    The other prompts that would show a fault of the layout lie within their own tolerances.
    """

    layout: str
    difference: float
    allowed: float


def choose_layout(
    language_model: LanguageModel,
    encoded: Sequence[Candidates],
    layouts: Sequence[str] = tuple(LAYOUTS),
) -> CheckedLayout:
    """The first layout whose law agrees with the model's own logits on the prompts that would show a fault.

    These are the first one, by itself, and together with it: the shortest and the longest with a response, since a mask
    may take the place of a window of attention; the longest of which a token stands elsewhere than at its position; and
    the one of the widest row. In half precision rounding would hide a fault, and candidates have rows of their own.

    Raises:
        ModelError: no layout agrees, so that no law of this model can be trusted, or the frequencies of its positions
            depend on the longest row, and these prompts have rows of both kinds.
    """
    _check_lengths(language_model, encoded)
    first, *others = (encoded[index] for index in _revealing(encoded))
    together = [[first], [first, *others]] if others else [[first]]
    own = [law_one_at_a_time(language_model, one) for some in together for one in some]
    depth = language_model.causal.config.get_text_config().num_hidden_layers
    eps = torch.finfo(language_model.head.weight.dtype).eps
    found = []
    for layout in layouts:
        if layout == SHARED_PREFIXES and eps >= COARSE:
            found.append(f"{layout}: rounding would hide a mask that is not honoured")
            continue
        batches = [EnumeratedLaw(language_model, some, layout) for some in together]
        try:
            laws = [law for batch in batches for law in batch.measured()]
        except (RuntimeError, TypeError, ValueError) as error:
            # Architectures without attention may not even accept its mask.
            found.append(f"{layout}: {str(error).splitlines()[0]}")
            continue
        off = [float(np.abs(law[:-1] - one).max()) for law, one in zip(laws, own, strict=True)]
        allowed = [enumeration_tolerance(law, depth, eps) for law in laws]
        if all(one <= most for one, most in zip(off, allowed, strict=True)):
            return CheckedLayout(layout, off[0], allowed[0])
        worst = int(np.argmax(np.array(off) / allowed))
        found.append(f"{layout}: off by {off[worst]:.3g} nats, allowed {allowed[worst]:.3g}")
    raise ModelError(
        f"the enumerated law differs from the logits of the model ({'; '.join(found)}): this architecture maps "
        "hidden states to logits in a way that is not supported; choose another model"
    )


def _check_lengths(language_model: LanguageModel, encoded: Sequence[Candidates]) -> None:
    """
    Raises:
        ModelError: the prefixes of responses have lengths at which the model's positions have different frequencies.
    """
    lengths = row_lengths(language_model.causal.config.get_text_config())
    shortest = min(len(one.prompt) for one in encoded)
    longest = max(len(one.prompt) + max(map(len, one.responses)) for one in encoded) - 1
    if lengths.kind(shortest) != lengths.kind(longest):
        switch = next(length for length in lengths.switches if length >= shortest)
        raise ModelError(
            f"rows of more than {switch} tokens have other rotary position embeddings in this model (rope_type "
            f"'longrope'), and the prompts with their responses have {shortest} to {longest + 1}: enumerate short and "
            "long ones apart, or score single responses"
        )


def _revealing(encoded: Sequence[Candidates]) -> list[int]:
    """The first prompt and the others that ``choose_layout`` names, each once."""
    rows = [shared_row(one) for one in encoded]
    sizes = [len(one.prompt) + max(map(len, one.responses)) for one in encoded]
    displaced = [
        max((at for place, at in enumerate(row.positions) if at != place), default=0)
        for row in rows
    ]
    widths = [len(row.tokens) for row in rows]
    largest = {int(np.argmax(values)) for values in (sizes, displaced, widths)}
    return sorted({0, int(np.argmin(sizes)), *largest})


@dataclass(frozen=True)
class CheckedPrecision:
    """How far the law of a head in a lower precision lies from that in float64, and may lie, in nats.

    ``mass_tolerance`` is what this precision may add to |sum p - 1|.
    """

    difference: float
    tolerance: float
    mass_tolerance: float


def check_precision(
    language_model: LanguageModel,
    encoded: Sequence[Candidates],
    layout: str,
    precision: torch.dtype,
) -> CheckedPrecision:
    """The law of the first prompt's candidates with the head in ``precision``, against that in float64.

    Both have the same hidden states, so the difference is that of the head; what it may be is derived in
    ``precision_tolerance``, and in ``sums_tolerance`` for the mass, here of any prompt.

    Raises:
        ModelError: the law moves by more than rounding explains, or its sum is farther from one.
        ValueError: a precision that is not one of ``PRECISIONS``.
    """
    law = EnumeratedLaw(language_model, encoded[:1], layout, precision)
    found, exact, head = law.in_both_precisions()
    difference, mass = float(np.abs(found - exact).max()), mass_error(found)
    allowed = precision_tolerance(head, precision, max(map(len, encoded[0].responses)))
    longest = max(len(response) for one in encoded for response in one.responses)
    sums = sums_tolerance(head.vocabulary, longest)
    name = str(precision).removeprefix("torch.")
    if not difference <= allowed:
        raise ModelError(
            f"with the head in {name} a response's log-probability is off by {difference:.3g} nats, more than the "
            f"{allowed:.3g} of its rounding: the kernel of this precision cannot be trusted here; choose float64"
        )
    if not mass <= mass_tolerance(found, sums):
        raise ModelError(
            f"with the head in {name} the law's mass is off by {mass:.3g}, more than the {sums:.3g} of its rounding: "
            "the kernel of this precision cannot be trusted here; choose float64"
        )
    return CheckedPrecision(difference, allowed, sums)
