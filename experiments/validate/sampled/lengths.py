"""Whether the prompts and responses of a run fit the model and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.tokens import check_one_tokenisation, prompt_tokens, response_tokens
from validate.sampled.sentences import DataError
from validate.sampled.task import Question

__all__ = ["check_lengths"]


def check_lengths(
    language_model: LanguageModel, questions: Sequence[Question], max_tokens: int
) -> None:
    """
    Raises:
        DataError: a prompt with a response of ``max_tokens`` is longer than the model's context, or an expert's
            response is longer than ``max_tokens``.
        ResponseError: the trainers would see other prompts than the measurement.
    """
    check_one_tokenisation(language_model.tokenizer, [q.text for q in questions])
    context = language_model.context
    for question in questions:
        size = len(prompt_tokens(language_model.tokenizer, question.text))
        if context is not None and size + max_tokens > context:
            raise DataError(
                f"{question.place}: the prompt has {size} tokens, which with a response of up to {max_tokens} is "
                f"more than the model's context of {context}; leave the sentence out, or lower --max-tokens"
            )
        for response in question.responses:
            length = len(response_tokens(language_model.tokenizer, response))
            if length > max_tokens:
                raise DataError(
                    f"{question.place}: the expert's response {response!r} has {length} tokens, more than "
                    f"--max-tokens {max_tokens}; raise it"
                )
