"""Responses drawn from a language model's own law.

A response is what the model generates after the prompt, token by token at temperature 1 from the whole vocabulary,
until a token that ends it, which counts, or until ``max_tokens``. So the law of responses is a proper law on a finite
tree, and it is the law that ``scoring`` scores: a few of the first draws are scored to see that it is. Architectures
that ignore the padding before shorter prompts, or whose cache is wrong for several rows, fail in batches, and are asked
about one prompt at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from nondecoupling.estimate.arguments import whole_number
from nondecoupling.lm.errors import ModelError, ResponseError
from nondecoupling.lm.language_model import LanguageModel, evaluating
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import (
    PromptResponse,
    require_known,
    require_texts,
    tokens_of_prompts,
)
from nondecoupling.lm.tolerances import enumeration_tolerance

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["draw", "options_of_another_law", "sample_responses", "text_of"]

# Responses that a call compares, of batches with padding and of those without, and again where prompts are longer.
CHECKED = 4
# Nats per token: several times what rounding to bfloat16 has been seen to do, where a bound on it would hide any fault.
ROUGHEST = 0.25
# Options that change no law. Of ``generate``: lengths, which callers compare; of beams and assistants, without these;
# what stands for no drawn token; speed; output; what changes no finite logits; where the options are from. Of vLLM: the
# length and output.
NO_LAW = re.compile(
    r"max_(length|new_tokens)|early_stopping|length_penalty|is_assistant|num_assistant_tokens\w*|"
    r"assistant_(confidence_threshold|lookbehind)|target_lookbehind|max_matching_ngram_size|(pad|bos)_token_id|"
    r"decoder_start_token_id|use_cache|cache_implementation|max_cache_len|\w+_compile|compile_config|prefill_chunk_size|"
    r"low_memory|continuous_batching_config|output_\w+|return_dict_in_generate|renormalize_logits|"
    r"remove_invalid_values|_from_model_config|transformers_version|"
    r"max_tokens|n|(prompt_|flat_)?logprobs|detokenize|skip_special_tokens|spaces_between_special_tokens|"
    r"include_stop_str_in_output"
)
# Values that turn an option off, beside those that leave it out; that of top_k in vLLM.
OFF = (("top_k", -1), ("guidance_scale", 1))
logger = logging.getLogger(__name__)


def sample_responses(
    language_model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    seed: int,
    rows_at_once: int = 256,
) -> list[str]:
    """The text of one response y ~ p(.|x) per prompt; repeat a prompt for several.

    ``rows_at_once`` responses are drawn together, on which the draws depend. Sets torch's random seed.

    Raises:
        ResponseError: ``max_tokens`` is less than 1, there is no prompt, or one has an unknown part.
        ModelError: ``generate`` draws from another law than that of the model's logits.
        ValueError: ``rows_at_once`` is less than 1.

    Example:
        >>> from nondecoupling.lm import tiny_qwen3
        >>> model = tiny_qwen3(["Is it red?", " Yes.", " No."], seed=0)
        >>> responses = sample_responses(model, ["Is it red?"] * 3, max_tokens=4, seed=1)
        >>> len(responses)
        3
    """
    if max_tokens < 1:
        raise ResponseError(f"max_tokens is {max_tokens}; it must be at least 1")
    require_texts("prompts", prompts)
    if not prompts:
        raise ResponseError("prompts is empty; give at least one")
    rows_at_once = whole_number("rows_at_once", rows_at_once, 1)
    tokens = tokens_of_prompts(language_model.tokenizer, prompts)
    for prompt, ids in zip(prompts, tokens, strict=True):
        require_known(language_model.tokenizer, prompt, ids)
    drawn = draw(language_model, tokens, max_tokens, seed, rows_at_once)
    return [text_of(language_model, response) for response in drawn]


def draw(
    language_model: LanguageModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    seed: int,
    rows_at_once: int = 256,
) -> list[list[int]]:
    """One response y ~ p(.|x) per prompt, as tokens, from the model as it is, in evaluation mode.

    Sets torch's random seed. The draws depend on ``rows_at_once``, the rows that the network evaluates together, unless
    batches turn out to be drawn from another law.

    Raises:
        ModelError: single responses are drawn from another law, too.
    """
    with evaluating(language_model.model):
        if rows_at_once > 1:
            try:
                return _drawn(language_model, prompts, max_tokens, seed, rows_at_once)
            except _OtherLaw as fault:
                logger.warning("%s; responses are drawn one at a time", fault)
        try:
            return _drawn(language_model, prompts, max_tokens, seed, 1)
        except _OtherLaw as fault:
            raise ModelError(
                f"{fault}, one response at a time, too; choose another model, or another version of transformers"
            ) from None


def options_of_another_law(
    language_model: LanguageModel, given: Mapping[str, Any], *, by_generate: bool = True
) -> dict[str, tuple[Any, Any]]:
    """The options by which a trainer draws from another law than ``draw`` does: name to (its value, the plain one).

    ``given`` are the trainer's, by the names of ``GenerationConfig``. What they leave open, also by None, ``generate``
    takes from the model's ``generation_config``, and then from its own defaults, where top_k is 50. Engines such as
    vLLM (``by_generate=False``) take nothing from there but the ends. Lengths are not compared.
    """
    from transformers import GenerationConfig

    prepared = cast(Any, language_model.causal)._prepare_generation_config
    with _only_plain_sampling(language_model, max_tokens=1) as plain:
        expected: dict[str, Any] = prepared(plain)[0].to_dict()
    used = {**expected, **given}
    if by_generate:
        always = {"do_sample": True, "max_new_tokens": 1, "eos_token_id": plain.eos_token_id}
        used = prepared(GenerationConfig(**{**always, **given}))[0].to_dict()
    every = {name: (used[name], own) for name, own in expected.items()}
    every |= {name: (value, None) for name, value in given.items() if name not in expected}
    return {
        name: pair
        for name, pair in every.items()
        if not NO_LAW.fullmatch(name) and not _same_law(name, *pair)
    }


def _same_law(name: str, value: Any, plain: Any) -> bool:
    """None, 0, False and nothing listed are all ways to leave an option out, but for a seed and an end."""
    if name == "eos_token_id":
        return _ends(value) == _ends(plain)
    nothing = name != "seed" and not value and not plain
    return value == plain or (name, value) in OFF or nothing


def _ends(tokens: int | Sequence[int] | None) -> set[int]:
    return set() if tokens is None else set(np.atleast_1d(tokens).tolist())


def text_of(language_model: LanguageModel, response: Sequence[int]) -> str:
    """The text of a response as trainers decode it, without its end and other special tokens."""
    return str(language_model.tokenizer.decode(list(response), skip_special_tokens=True))


class _OtherLaw(Exception):
    """Responses were not drawn from the law that is scored."""


class _Witness:
    """Takes part in ``generate``, which calls it before each draw: what the tokens of some rows were drawn with."""

    def __init__(self, rows: list[int]) -> None:
        self.rows, self.log_law = rows, torch.empty(0)
        self._steps: list[Tensor] = []

    def __call__(self, tokens: Tensor, scores: Tensor) -> Tensor:
        if self.log_law.numel():
            self._steps.append(self._drawn(tokens))
        self.log_law = torch.log_softmax(scores[self.rows].float(), dim=-1)
        return scores

    def _drawn(self, tokens: Tensor) -> Tensor:
        return self.log_law.gather(1, tokens[self.rows, -1:])

    def log_probs(self, tokens: Tensor) -> Tensor:
        """[rows, steps] of what ``generate`` returned."""
        return torch.cat([*self._steps, self._drawn(tokens)], dim=1).double().cpu()


def _drawn(
    language_model: LanguageModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    seed: int,
    rows_at_once: int,
) -> list[list[int]]:
    """
    Raises:
        _OtherLaw: some that were looked at are from another law.
    """
    responses: list[list[int]] = []
    checked = {False: _Checked(), True: _Checked()}
    torch.manual_seed(seed)
    for start in range(0, len(prompts), rows_at_once):
        some = prompts[start : start + rows_at_once]
        padded = len({len(prompt) for prompt in some}) > 1
        rows = checked[padded].due(some)
        drawn, log_p = _generate(language_model, some, max_tokens, rows)
        pairs = [PromptResponse(some[row], drawn[row]) for row in rows]
        _require_own_law(language_model, pairs, log_p)
        responses += drawn
    return responses


@dataclass
class _Checked:
    """How many responses of one kind of batch have been checked, and the longest prompt of such a batch."""

    count: int = 0
    longest: int = 0

    def due(self, prompts: Sequence[list[int]]) -> list[int]:
        """The places of the prompts whose responses are to be checked, from the shortest to the longest prompt."""
        longest = max(map(len, prompts))
        wanted = CHECKED if longest > self.longest else max(0, CHECKED - self.count)
        places = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        ranks = np.linspace(0, len(places) - 1, min(wanted, len(places)))
        self.count, self.longest = self.count + len(ranks), max(self.longest, longest)
        return [places[int(rank)] for rank in ranks]


def _generate(
    language_model: LanguageModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    witnessed: list[int],
) -> tuple[list[list[int]], list[float]]:
    """Responses, and the log-probabilities that those to the prompts at ``witnessed`` were drawn with."""
    length, end = max(map(len, prompts)), language_model.tokenizer.eos_token_id
    rows = [[end] * (length - len(p)) + p for p in prompts]
    seen = [[0] * (length - len(p)) + [1] * len(p) for p in prompts]
    device, generate = language_model.device, language_model.causal.generate
    witness = _Witness(witnessed)
    with torch.no_grad(), _only_plain_sampling(language_model, max_tokens) as plain:
        whole = cast(Callable[..., torch.Tensor], generate)(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(seen, device=device),
            generation_config=plain,
            logits_processor=[witness] if witnessed else [],
        )
    ends = language_model.ends
    drawn = [_until(ends, row) for row in whole[:, length:].tolist()]
    if not witnessed:
        return drawn, []
    steps = witness.log_probs(whole)
    sums = [float(own[: len(drawn[row])].sum()) for row, own in zip(witnessed, steps, strict=True)]
    return drawn, sums


@contextmanager
def _only_plain_sampling(
    language_model: LanguageModel, max_tokens: int
) -> Iterator[GenerationConfig]:
    """``plain_sampling`` as the model's own too: ``generate`` takes from that what the one it is given leaves open."""
    causal = language_model.causal
    own, plain = causal.generation_config, language_model.plain_sampling(max_tokens)
    causal.generation_config = plain
    try:
        yield plain
    finally:
        causal.generation_config = own


def _until(ends: Sequence[int], tokens: list[int]) -> list[int]:
    """The tokens to the first end."""
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]


def _require_own_law(
    language_model: LanguageModel, pairs: list[PromptResponse], drawn: list[float]
) -> None:
    """
    Raises:
        _OtherLaw: a response was drawn with another log-probability than ``log_probs`` gives it by itself.
    """
    if not pairs:
        return
    depth = language_model.causal.config.get_text_config().num_hidden_layers
    own, eps = log_probs(language_model, pairs, rows_at_once=1), _coarsest_eps(language_model)
    for pair, log_drawn, log_p in zip(pairs, drawn, own, strict=True):
        rounding = enumeration_tolerance(np.array(log_p), depth, eps)
        allowed = min(rounding, ROUGHEST * len(pair.response))
        if not abs(log_drawn - log_p) <= allowed:
            raise _OtherLaw(
                f"{language_model.description}: generate drew a response with log-probability {log_drawn:.6g} that has "
                f"{log_p:.6g} by the model's logits (allowed {allowed:.2g} apart), so its draws are from another law"
            )


def _coarsest_eps(language_model: LanguageModel) -> float:
    """Of what the network computes in, and of float32, in which ``generate`` draws."""
    kind = language_model.device.type
    dtypes = {p.dtype for p in language_model.model.parameters() if p.is_floating_point()}
    if torch.is_autocast_enabled(kind):
        dtypes.add(torch.get_autocast_dtype(kind))
    if kind == "cuda" and torch.get_float32_matmul_precision() != "highest":
        dtypes.add(torch.float16)  # TF32 has as many digits
    return max(torch.finfo(dtype).eps for dtype in {torch.float32, *dtypes})
