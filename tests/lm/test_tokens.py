"""One tokenisation: what is measured is what a trainer sees, or the tokenizer is refused."""

import copy

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.lm import ResponseError, score_responses
from nondecoupling.lm.tokens import (
    check_one_tokenisation,
    prompt_and_responses,
    prompt_response,
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


def test_a_response_that_says_its_end_has_no_second_one(tiny):
    tokenizer, end = tiny.tokenizer, tiny.tokenizer.eos_token_id
    assert response_tokens(tokenizer, " yes.<eos>") == response_tokens(tokenizer, " yes.")
    assert response_tokens(tokenizer, "<eos>") == [end]
    one, same = score_responses(tiny, PROMPTS[:1] * 2, [" yes.", " yes.<eos>"])
    assert one == same
    for text in (" yes.<eos><eos>", "<eos> yes.", " yes.<eos> no.<eos>"):
        with pytest.raises(ResponseError, match=f"{text!r} goes on behind '<eos>'"):
            response_tokens(tokenizer, text)


def test_an_end_that_is_also_what_is_unknown_ends_a_response(tiny):
    """As in the tokenizer of GPT-2."""
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.unk_token = tokenizer.eos_token
    assert response_tokens(tokenizer, " yes.<eos>") == response_tokens(tokenizer, " yes.")


@pytest.mark.parametrize("template", ["$A", "$A <eos>"])
def test_an_end_in_a_prompts_own_text_stays(tiny, template):
    tokenizer, end = with_template(tiny.tokenizer, template), tiny.tokenizer.eos_token_id
    plain = prompt_tokens(tokenizer, PROMPTS[0])
    assert end not in plain
    assert prompt_tokens(tokenizer, f"{PROMPTS[0]}<eos>") == [*plain, end]
    assert prompt_tokens(tokenizer, f"{PROMPTS[0]}<eos><eos>") == [*plain, end, end]
    without, with_end = score_responses(tiny, [PROMPTS[0], f"{PROMPTS[0]}<eos>"], [" yes."] * 2)
    assert abs(without - with_end) > 1e-3


def made_of(pieces, normalizer=None, pre_tokenizer=None, decoder=None, model=None):
    vocabulary = ["<unk>", "<s>", "</s>", *pieces]
    table = {piece: index for index, piece in enumerate(vocabulary)}
    scores = [(piece, -1.0 if len(piece) > 1 else -5.0) for piece in vocabulary]
    made = Tokenizer(model(table) if model else models.Unigram(scores, unk_id=0))
    for name, part in (
        ("normalizer", normalizer),
        ("pre_tokenizer", pre_tokenizer),
        ("decoder", decoder),
    ):
        if part is not None:
            setattr(made, name, part)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    return with_bos(tokenizer)


def with_bos(tokenizer):
    special = [("<s>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=special
    )
    return tokenizer


PIECES = ["▁", "▁▁", "▁Yes", "Yes", "▁No", "No", "▁Q:", "Q", ":", "\n", *"YesNo."]
SPACES = normalizers.Replace(" ", "▁")
FUSED = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def prepending():
    """As Llama 2 and Mistral: a space before every text."""
    return made_of(PIECES, normalizers.Sequence([normalizers.Prepend("▁"), SPACES]), decoder=FUSED)


def metaspace(scheme):
    part = {"replacement": "▁", "prepend_scheme": scheme}
    return made_of(
        PIECES,
        pre_tokenizer=pre_tokenizers.Metaspace(**part, split=False),
        decoder=decoders.Metaspace(**part),
    )


@pytest.mark.parametrize(
    "tokenizer", [prepending(), metaspace("first"), metaspace("always")], ids=["▁", "first", "all"]
)
@pytest.mark.parametrize(
    ("prompt", "response", "cut"),
    [
        ("Q:", " Yes", ["▁Yes"]),
        ("Q:", "Yes", ["Yes"]),
        ("Q:", "", []),
        ("Q:", " Yes.</s>", ["▁Yes", "."]),
        ("Q:", "  Yes", ["▁▁", "Yes"]),
        ("Q:\n", "Yes", ["Yes"]),
    ],
)
def test_no_space_comes_between_a_prompt_and_its_response(tokenizer, prompt, response, cut):
    pair = prompt_response(tokenizer, prompt, response)
    assert pair.prompt == tokenizer(prompt)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(pair.response) == [*cut, "</s>"]
    whole = tokenizer.decode(pair.prompt + pair.response, skip_special_tokens=True)
    assert whole.lstrip() == f"{prompt}{response}".removesuffix("</s>")


def test_a_prompt_that_joins_its_response_is_refused():
    """'Q: Yes' is cut into 'Q:' and ' Yes', and no token of the prompt 'Q: ' is left for its space."""
    with pytest.raises(
        ResponseError, match=r"'Q: ' and the response 'Yes' have no common cut .* move a space"
    ):
        prompt_response(prepending(), "Q: ", "Yes")


def test_what_is_unknown_to_such_a_tokenizer_is_named():
    with pytest.raises(ResponseError, match="no token for a part of the response ' Maybe'"):
        prompt_response(prepending(), "Q:", " Maybe")


def test_a_chat_is_followed_by_its_response():
    tokenizer = prepending()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}:"
    chat = [{"role": "user", "content": "Q"}]
    start, responses = prompt_and_responses(tokenizer, chat, [" Yes", "No"])
    assert tokenizer.convert_ids_to_tokens(start) == ["▁Q:"]
    whole = [["▁Yes", "</s>"], ["No", "</s>"]]
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in responses] == whole
    tokenizer.chat_template += "{{ behind }}"
    again, responses = prompt_and_responses(tokenizer, chat, [" Yes", "No"], {"behind": "Q:"})
    assert tokenizer.convert_ids_to_tokens(again)[0] == "▁Q:" and again != start
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in responses] == whole


WORDS = ["q", "##yes", "yes", "no", ":", "."]
LOWER_CASES = made_of(
    WORDS,
    normalizers.Lowercase(),
    pre_tokenizers.BertPreTokenizer(),
    decoders.WordPiece(),
    lambda table: models.WordPiece(table, unk_token="<unk>"),
)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "response"),
    [
        (LOWER_CASES, "Q:", " Yes."),
        (LOWER_CASES, "q:", "No."),
        (metaspace("never"), "Q:", " Yes"),
        (metaspace("never"), "Q:", "Yes"),
    ],
)
def test_elsewhere_a_response_has_the_tokens_of_its_own_text(tokenizer, prompt, response):
    found = prompt_response(tokenizer, prompt, response).response
    assert found == response_tokens(tokenizer, response) and tokenizer.unk_token_id not in found


def test_words_keep_their_tokens_behind_any_prompt(tiny):
    """Also where both texts together would be cut into others: ' white' and 'yes' are no word as one."""
    for prompt in (*PROMPTS, "Is snow", " white"):
        for response in (*CANDIDATES[0], "", "."):
            found = prompt_response(tiny.tokenizer, prompt, response)
            assert found.prompt == prompt_tokens(tiny.tokenizer, prompt)
            assert found.response == response_tokens(tiny.tokenizer, response)
