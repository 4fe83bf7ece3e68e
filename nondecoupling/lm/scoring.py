"""Score a response under a model, or under two policies with the divergence between them.

A score is log p(y|x) in nats, the sum over the tokens of the response with its end-of-sequence token. For two policies
it comes with the sum over these tokens of the full-vocabulary KL (Rao-Blackwellised), next to the plain log-ratio, and
on request with what ``estimate.compare_sampler`` asks of every token.
Hidden states come from the network, everything after them from ``nondecoupling.kernels``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nondecoupling.estimate import NUCLEUS, TEMPERATURES, TokenScores
from nondecoupling.estimate.arguments import whole_number
from nondecoupling.kernels import TokenStats, token_kl, token_stats
from nondecoupling.lm.errors import ModelError, ResponseError
from nondecoupling.lm.language_model import LanguageModel, State
from nondecoupling.lm.response_rows import evaluate
from nondecoupling.lm.tokens import PromptResponse, prompt_response, require_texts

__all__ = ["Scores", "compare_models", "compare_states", "log_probs", "score_responses"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Per response: log-probabilities under p and ref, and sum_t KL(p(.|y_<t)||ref(.|y_<t)), all [n], in nats.

    ``tokens``: p's law at every token of the responses, for a test that they were drawn from p; where it was asked for.
    """

    log_p: Floats
    log_ref: Floats
    kl: Floats
    tokens: TokenScores | None = None


def score_responses(
    language_model: LanguageModel,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    rows_at_once: int = 256,
) -> Floats:
    """log p(y|x) of each whole response to the prompt at its place, [n], in nats.

    ``rows_at_once`` responses are evaluated together; a prompt that stands before several of them is evaluated once,
    where the architecture honours the mask that this takes.

    Raises:
        ResponseError: as many prompts as responses are needed, at least one, all with known tokens; or a response goes
            on past a token that ends it.
        ValueError: ``rows_at_once`` is less than 1.

    Example:
        >>> from nondecoupling.lm import tiny_qwen3
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> score_responses(model, ["Is it red?"] * 2, [" Yes.", " No."]).round(2)
        array([-6.61, -5.12])
    """
    rows_at_once = whole_number("rows_at_once", rows_at_once, 1)
    return log_probs(language_model, _pairs(language_model, prompts, responses), rows_at_once)


def compare_models(
    p: LanguageModel,
    ref: LanguageModel,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    rows_at_once: int = 256,
) -> Scores:
    """Scores of the same responses under two models with one vocabulary.

    The mean of ``kl`` over responses drawn from p estimates KL(p||ref) with less noise than the mean log-ratio.

    Raises:
        ResponseError: the models cut a text into different tokens, and what ``score_responses`` refuses.
        ModelError: the models scale or cap their logits differently, or one is the other with adapters put into it.
    """
    if p.model is not ref.model and p.causal is ref.causal:
        raise ModelError(
            f"p ({p.description}) and ref ({ref.description}) hold one and the same module, so they are one law: put "
            "adapters on a copy (copy.deepcopy, or with_lora)"
        )
    if p.logit_options != ref.logit_options:
        raise ModelError(
            f"p has logits with {p.logit_options} and ref with {ref.logit_options}; compare models of one architecture"
        )
    rows_at_once = whole_number("rows_at_once", rows_at_once, 1)
    pairs = _pairs(p, prompts, responses)
    for prompt, response, pair in zip(prompts, responses, pairs, strict=True):
        if prompt_response(ref.tokenizer, prompt, response) != pair:
            raise ResponseError(
                f"p and ref cut the prompt {prompt!r} with the response {response!r} into different tokens; "
                "compare models with one tokenizer"
            )
    return _compare(lambda: p, lambda: ref, pairs, rows_at_once)


def compare_states(
    language_model: LanguageModel,
    pairs: Sequence[PromptResponse],
    p: State,
    ref: State,
    rows_at_once: int = 256,
    *,
    per_token: bool = False,
) -> Scores:
    """Scores under two states of one model's trained parameters; the model is left in state ``p``.

    ``per_token`` asks for ``tokens``, which takes the whole law of every token in order of its probabilities.
    """

    def at(state: State) -> LanguageModel:
        language_model.restore(state)
        return language_model

    return _compare(lambda: at(p), lambda: at(ref), pairs, rows_at_once, per_token)


def log_probs(
    language_model: LanguageModel, pairs: Sequence[PromptResponse], rows_at_once: int = 256
) -> Floats:
    """log p(y|x) of each pair under the model as it is, [n] in float64."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(pairs), rows_at_once):
            some = pairs[start : start + rows_at_once]
            hidden, targets, owner = _places(language_model, some)
            head, options = language_model.head, language_model.logit_options
            bias = getattr(head, "bias", None)
            logprob = token_stats(hidden, head.weight, targets, bias=bias, **options).logprob
            parts.append(_sums(logprob, owner, len(some)))
    return np.concatenate(parts)


def _compare(
    at_p: Callable[[], LanguageModel],
    at_ref: Callable[[], LanguageModel],
    pairs: Sequence[PromptResponse],
    rows_at_once: int,
    per_token: bool = False,
) -> Scores:
    """``at_p`` and ``at_ref`` give the model, which may be one and the same, in the state that is asked for."""
    parts: list[list[Floats]] = [[], [], []]
    flat: list[Floats] = []
    with torch.no_grad():
        for start in range(0, len(pairs), rows_at_once):
            some = pairs[start : start + rows_at_once]
            ref = at_ref()
            hidden_ref, targets, owner = _places(ref, some)
            weight_ref, bias_ref = map(_kept, (ref.head.weight, getattr(ref.head, "bias", None)))
            assert weight_ref is not None
            log_ref = token_stats(
                hidden_ref, weight_ref, targets, bias=bias_ref, **ref.logit_options
            ).logprob
            p = at_p()
            hidden, _, _ = _places(p, some)
            weight, bias = p.head.weight, getattr(p.head, "bias", None)
            asked: dict[str, Any] = (
                {"tempered": TEMPERATURES, "nucleus": NUCLEUS} if per_token else {}
            )
            stats = token_stats(hidden, weight, targets, bias=bias, **asked, **p.logit_options)
            kl = token_kl(
                hidden,
                weight,
                hidden_ref,
                weight_ref,
                bias_p=bias,
                bias_q=bias_ref,
                **p.logit_options,
            )
            for part, values in zip(parts, (stats.logprob, log_ref, kl), strict=True):
                part.append(_sums(values, owner, len(some)))
            if per_token:
                flat.append(_columns(stats, log_ref))
    tokens = _token_scores(np.concatenate(flat), pairs) if per_token else None
    log_p_sums, log_ref_sums, kl_sums = map(np.concatenate, parts)
    return Scores(log_p_sums, log_ref_sums, kl_sums, tokens)


def _kept(parameter: Tensor | None) -> Tensor | None:
    """A parameter as it is now: p may be the same model in another state of what is trained.

    One that no state changes stays itself: then two states share it, and their divergence takes fewer products.
    """
    if parameter is None or not parameter.requires_grad:
        return parameter
    return parameter.clone()


def _columns(stats: TokenStats, log_ref: Tensor) -> Floats:
    """[tokens, 13]: the log-sums last, and before them the other fields of ``TokenScores`` in the order used below."""
    assert stats.ranks is not None and stats.tempered is not None
    single = (stats.logprob, log_ref, *stats.ranks)
    columns = [*(one[:, None].double() for one in single), stats.tempered.double()]
    return torch.cat(columns, dim=1).cpu().numpy()


def _token_scores(flat: Floats, pairs: Sequence[PromptResponse]) -> TokenScores:
    """The tokens of all responses one after another, as arrays [responses, longest]."""
    lengths = np.array([len(pair.response) for pair in pairs])
    mask = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros((*mask.shape, flat.shape[1]))
    rows[mask] = flat
    log_p, log_ref, mass_before, nucleus_mass, in_nucleus = np.moveaxis(rows[..., :5], -1, 0)
    return TokenScores(
        log_p=log_p,
        log_sums=rows[..., 5:],
        mass_before=mass_before,
        in_nucleus=in_nucleus,
        nucleus_mass=nucleus_mass,
        log_ref=log_ref,
        mask=mask,
    )


def _pairs(
    language_model: LanguageModel, prompts: Sequence[str], responses: Sequence[str]
) -> list[PromptResponse]:
    require_texts("prompts", prompts)
    require_texts("responses", responses)
    if len(prompts) != len(responses) or not prompts:
        raise ResponseError(
            f"there are {len(prompts)} prompts and {len(responses)} responses; give one prompt per response, and at "
            "least one of each"
        )
    pairs = [
        prompt_response(language_model.tokenizer, prompt, response)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    for response, pair in zip(responses, pairs, strict=True):
        language_model.require_one_end(response, pair.response)
    return pairs


def _places(
    language_model: LanguageModel, pairs: Sequence[PromptResponse]
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states that predict the tokens of the responses, these tokens, and whose they are."""
    hidden = evaluate(language_model, pairs)
    targets = [token for pair in pairs for token in pair.response]
    owner = [index for index, pair in enumerate(pairs) for _ in pair.response]
    device = hidden.device
    return hidden, torch.tensor(targets, device=device), torch.tensor(owner, device=device)


def _sums(values: Tensor, owner: Tensor, count: int) -> Floats:
    total = torch.zeros(count, dtype=torch.float64, device=values.device)
    return total.index_add(0, owner, values.double()).cpu().numpy()
