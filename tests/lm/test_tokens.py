"""One tokenisation: what is measured is what a trainer sees, or the tokenizer is refused."""

import copy

import pytest
from tokenizers.processors import TemplateProcessing
from yes_or_no import PROMPTS

from nondecoupling.lm import ResponseError
from nondecoupling.lm.tokens import (
    check_one_tokenisation,
    prompt_tokens,
    response_tokens,
    tokens_of_prompts,
)


def with_template(tokenizer, template):
    """A tokenizer that puts special tokens around every text."""
    changed = copy.deepcopy(tokenizer)
    special = [("<eos>", tokenizer.eos_token_id), ("<pad>", tokenizer.pad_token_id)]
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=special
    )
    return changed


def test_a_tokenizer_that_appends_an_end_is_seen(tiny):
    appending = with_template(tiny.tokenizer, "$A <eos>")
    plain = tiny.tokenizer(PROMPTS[0])["input_ids"]
    assert appending(PROMPTS[0])["input_ids"] == [*plain, tiny.tokenizer.eos_token_id]
    assert prompt_tokens(appending, PROMPTS[0]) == plain
    with pytest.raises(
        ResponseError, match=r"puts \['<eos>'\] behind the prompt 'Is snow white\?'"
    ):
        check_one_tokenisation(appending, PROMPTS)


def test_a_tokenizer_that_begins_with_a_token_is_the_same_everywhere(tiny):
    beginning = with_template(tiny.tokenizer, "<pad> $A")
    check_one_tokenisation(beginning, PROMPTS)
    assert prompt_tokens(beginning, PROMPTS[0])[0] == tiny.tokenizer.pad_token_id
    check_one_tokenisation(tiny.tokenizer, PROMPTS)


def test_a_response_has_one_end_whatever_the_tokenizer_appends(tiny):
    appending, end = with_template(tiny.tokenizer, "$A <eos>"), tiny.tokenizer.eos_token_id
    tokens = response_tokens(appending, " yes.")
    assert tokens == response_tokens(tiny.tokenizer, " yes.") and tokens.count(end) == 1
    assert response_tokens(tiny.tokenizer, "") == [end]


@pytest.mark.parametrize("template", ["$A", "<pad> $A", "$A <eos>"])
def test_many_prompts_have_the_tokens_that_each_has(tiny, template):
    tokenizer = with_template(tiny.tokenizer, template)
    prompts = [*PROMPTS, "Is snow"]
    together = tokens_of_prompts(tokenizer, prompts)
    alone = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    assert together == [ids[:-1] if "eos" in template else ids for ids in alone]
    assert len({len(ids) for ids in together}) > 1, "of one length, padding would not be seen"
    assert tokens_of_prompts(tokenizer, []) == []
    if template != "<pad> $A":
        with pytest.raises(ResponseError, match="the prompt '' has no tokens"):
            tokens_of_prompts(tokenizer, [PROMPTS[0], ""])
