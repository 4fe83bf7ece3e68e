"""Whether the prompts and responses of a run fit the model and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.tokens import check_one_tokenisation, response_tokens
from validate.sampled.sentences import DataError
from validate.sampled.task import Question

__all__ = ["check_lengths"]


PROBLEMS_SHOWN = 5


def check_lengths(
    language_model: LanguageModel, questions: Sequence[Question], max_tokens: int
) -> None:
    """
    Raises:
        DataError: prompts with a response of ``max_tokens`` are longer than the model's context, or experts'
            responses are longer than ``max_tokens``; the message counts them and shows the first ones.
        ResponseError: the trainers would see other prompts than the measurement.
    """
    tokenizer, texts = language_model.tokenizer, [q.text for q in questions]
    sizes = map(len, check_one_tokenisation(tokenizer, texts))
    responses = dict.fromkeys(r for q in questions for r in q.responses)
    lengths = {response: len(response_tokens(tokenizer, response)) for response in responses}
    problems = [
        problem
        for question, size in zip(questions, sizes, strict=True)
        for problem in _problems(language_model.context, question, size, lengths, max_tokens)
    ]
    if problems:
        count = f"{len(problems)} prompts or responses are too long, the first ones:\n  "
        shown = "\n  ".join(problems[:PROBLEMS_SHOWN])
        raise DataError((count if len(problems) > 1 else "") + shown)


def _problems(
    context: int | None, question: Question, size: int, lengths: Mapping[str, int], max_tokens: int
) -> Iterator[str]:
    if context is not None and size + max_tokens > context:
        yield (
            f"{question.place}: the prompt has {size} tokens, which with a response of up to {max_tokens} is "
            f"more than the model's context of {context}; leave the sentence out, or lower --max-tokens"
        )
    longest = max(question.responses, key=lengths.__getitem__)
    if lengths[longest] > max_tokens:
        yield (
            f"{question.place}: the expert's response {longest!r} has {lengths[longest]} tokens, more than "
            f"--max-tokens {max_tokens}; raise it"
        )
