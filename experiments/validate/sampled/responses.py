"""Responses drawn from the model, and their scores under two policies.

A response is what the model generates after the prompt, token by token at temperature 1 from the whole vocabulary,
until its end-of-sequence token, which counts, or until ``max_tokens``. So the law of responses is a proper law on a
finite tree. An empty response is the end-of-sequence token alone.

Scores come from ``nondecoupling.kernels``: log p of the response, and for two policies the sum over its tokens of
the full-vocabulary KL (Rao-Blackwellised) next to the plain log-ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats
from validate.models import LanguageModel
from validate.sampled.sentences import DataError
from validate.sampled.task import Question

__all__ = ["Pair", "Sampler", "Scores", "token_ids"]

State = dict[str, Tensor]


def token_ids(language_model: LanguageModel, text: str, *, prompt: bool) -> list[int]:
    """The tokens of a prompt, or of a whole response with its end-of-sequence token."""
    tokenizer, end = language_model.tokenizer, language_model.tokenizer.eos_token_id
    if not prompt:
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
    ids = list(tokenizer(text)["input_ids"])
    return ids[:-1] if ids and ids[-1] == end else ids


def check_lengths(
    language_model: LanguageModel, questions: Sequence[Question], max_tokens: int
) -> None:
    """
    Raises:
        DataError: a prompt with a response of ``max_tokens`` is longer than the model's context, or an expert's
            response is longer than ``max_tokens``.
    """
    context = getattr(
        language_model.causal.config.get_text_config(), "max_position_embeddings", None
    )
    for question in questions:
        size = len(token_ids(language_model, question.text, prompt=True))
        if context is not None and size + max_tokens > context:
            raise DataError(
                f"{question.place}: the prompt has {size} tokens, which with a response of up to {max_tokens} is "
                f"more than the model's context of {context}; leave the sentence out, or lower --max-tokens"
            )
        for response in question.responses:
            length = len(token_ids(language_model, response, prompt=False))
            if length > max_tokens:
                raise DataError(
                    f"{question.place}: the expert's response {response!r} has {length} tokens, more than "
                    f"--max-tokens {max_tokens}; raise it"
                )


@dataclass(frozen=True)
class Pair:
    """A prompt and a response, as tokens."""

    prompt: list[int]
    response: list[int]


@dataclass(frozen=True)
class Scores:
    """Per response: log-probabilities under p and ref, and sum_t KL(p(.|y_<t)||ref(.|y_<t)), all [n]."""

    log_p: np.ndarray
    log_ref: np.ndarray
    kl: np.ndarray


class Sampler:
    """Draws responses from a language model and scores them; a policy is a state of its trained parameters."""

    def __init__(self, language_model: LanguageModel, max_tokens: int, batch: int) -> None:
        self.language_model, self.max_tokens, self.batch = language_model, max_tokens, batch

    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[list[int]]:
        """One response y ~ p(.|x) per prompt, from the model as it is."""
        responses: list[list[int]] = []
        torch.manual_seed(seed)
        for start in range(0, len(prompts), self.batch):
            responses += self._generate(prompts[start : start + self.batch])
        return responses

    def _generate(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        model, tokenizer = self.language_model, self.language_model.tokenizer
        length, end = max(map(len, prompts)), tokenizer.eos_token_id
        rows = [[end] * (length - len(p)) + p for p in prompts]
        seen = [[0] * (length - len(p)) + [1] * len(p) for p in prompts]
        with torch.no_grad():
            whole = model.causal.generate(
                input_ids=torch.tensor(rows, device=model.device),
                attention_mask=torch.tensor(seen, device=model.device),
                generation_config=model.plain_sampling(self.max_tokens),
            )
        return [_until(end, row) for row in whole[:, length:].tolist()]

    def text(self, response: Sequence[int]) -> str:
        return self.language_model.tokenizer.decode(response, skip_special_tokens=True)

    def log_probs(self, pairs: Sequence[Pair]) -> np.ndarray:
        """log p(y|x) of each pair under the model as it is, [n] in float64."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(pairs), self.batch):
                some = pairs[start : start + self.batch]
                hidden, targets, owner = self._places(some)
                log_probs = token_stats(hidden, self._weight, targets, **self._head).logprob
                parts.append(_sums(log_probs, owner, len(some)))
        return np.concatenate(parts)

    def scores(self, pairs: Sequence[Pair], p: State, ref: State) -> Scores:
        """Both log-probabilities and the KL from p to ref along each response."""
        parts: list[list[np.ndarray]] = [[], [], []]
        with torch.no_grad():
            for start in range(0, len(pairs), self.batch):
                some = pairs[start : start + self.batch]
                self.language_model.restore(ref)
                hidden_ref, targets, owner = self._places(some)
                weight_ref, head_ref = self._weight.clone(), dict(self._head)
                log_ref = token_stats(hidden_ref, weight_ref, targets, **head_ref).logprob
                self.language_model.restore(p)
                hidden, _, _ = self._places(some)
                log_p = token_stats(hidden, self._weight, targets, **self._head).logprob
                kl = token_kl(
                    hidden,
                    self._weight,
                    hidden_ref,
                    weight_ref,
                    bias_p=self._head["bias"],
                    bias_q=head_ref["bias"],
                    softcap=self.language_model.softcap,
                )
                for part, values in zip(parts, (log_p, log_ref, kl), strict=True):
                    part.append(_sums(values, owner, len(some)))
        return Scores(*map(np.concatenate, parts))

    @property
    def _weight(self) -> Tensor:
        return self.language_model.head.weight

    @property
    def _head(self) -> dict[str, Any]:
        bias = getattr(self.language_model.head, "bias", None)
        return {"bias": bias, "softcap": self.language_model.softcap}

    def _places(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states that predict the tokens of the responses, these tokens, and whose they are."""
        rows = [[*pair.prompt, *pair.response] for pair in pairs]
        width = max(map(len, rows))
        device = self.language_model.device
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        positions = torch.arange(width, device=device).expand(len(rows), -1)
        hidden = self.language_model.hidden_states(tokens, None, positions)
        flat, targets, owner = [], [], []
        for index, pair in enumerate(pairs):
            first = index * width + len(pair.prompt) - 1
            flat += range(first, first + len(pair.response))
            targets += pair.response
            owner += [index] * len(pair.response)
        chosen = hidden.reshape(-1, hidden.shape[-1])[torch.tensor(flat, device=device)]
        return chosen, torch.tensor(targets, device=device), torch.tensor(owner, device=device)


def _until(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def _sums(values: Tensor, owner: Tensor, count: int) -> np.ndarray:
    total = torch.zeros(count, dtype=torch.float64, device=values.device)
    return total.index_add(0, owner, values.double()).cpu().numpy()
