"""Prompts as turns of a chat: what the model is asked, and a run from SFT to the report."""

import json

import pytest
import qwen_validate
from run_helpers import lines_of
from tokenizers.processors import TemplateProcessing
from validate.configuration import configuration
from validate.errors import RunError
from validate.models import model_of_run
from validate.sampled.chat import as_asked
from validate.sampled.sentences import load_sentences
from validate.sampled.task import make_task

from nondecoupling.lm.tokens import tokens_of_prompts

TEMPLATE = "{% for m in messages %}User: {{ m['content'] }} Model:{% endfor %}"


@pytest.fixture(scope="module")
def task():
    return make_task(load_sentences("grammar"), 300, 5, 0, "chat")


@pytest.fixture
def language_model(task):
    texts = [*task.texts, "User: ", " Model:"]
    return model_of_run(configuration({"protocol": "sampled"}), texts)


def test_a_question_in_a_chat_is_that_of_a_text_without_what_is_to_be_continued(task):
    plain = make_task(load_sentences("grammar"), 300, 5, 0)
    for one, other in zip(task.evaluation, plain.evaluation, strict=True):
        assert one.text + "\nAnswer:" == other.text and one.label == other.label
        assert [" " + response for response in one.responses] == list(other.responses)
        assert one.law == other.law


def test_a_turn_is_the_template_s(task, language_model):
    language_model.tokenizer.chat_template = TEMPLATE
    turns = as_asked(task, "chat", language_model.tokenizer)
    for before, after in zip(task.train[:5], turns.train, strict=False):
        assert after.text == f"User: {before.text} Model:" and after.responses == before.responses
    assert len(turns.train) == 300 and len(turns.evaluation) == 5
    assert as_asked(task, "plain", language_model.tokenizer) is task
    assert turns.held_out[0].text == f"User: {task.held_out[0].text} Model:"


def test_a_first_token_that_template_and_tokenizer_both_write_stands_once(task, language_model):
    tokenizer = language_model.tokenizer
    tokenizer.bos_token = "<unk>"
    tokenizer.chat_template = "<unk>" + TEMPLATE
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", tokenizer.unk_token_id)]
    )
    turn = as_asked(task, "chat", tokenizer).evaluation[0].text
    assert turn.startswith("User: ")
    (tokens,) = tokens_of_prompts(tokenizer, [turn])
    assert tokens[0] == tokenizer.unk_token_id != tokens[1]


def test_a_tokenizer_that_reads_turns_otherwise_is_refused(task, language_model):
    tokenizer = language_model.tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", tokenizer.unk_token_id)]
    )
    with pytest.raises(RunError, match="otherwise than its template is tokenised"):
        as_asked(task, "chat", tokenizer)


def test_a_model_without_a_template_is_refused(tmp_path, capsys):
    given = ["--protocol", "sampled", "--prompt-format", "chat", "--train-prompts", "300"]
    assert qwen_validate.main([*given, "--out", str(tmp_path / "run")]) == 2
    assert "no chat template; use --prompt-format plain" in capsys.readouterr().err


@pytest.mark.slow  # trains two stages
def test_a_run_in_a_chat(tmp_path, language_model):
    language_model.tokenizer.chat_template = TEMPLATE
    language_model.model.save_pretrained(tmp_path / "model")
    language_model.tokenizer.save_pretrained(tmp_path / "model")
    sizes = {"train-prompts": 300, "pilot-prompts": 20, "eval-prompts": 40, "responses": 4}
    sizes |= {"sft-steps": 60, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    given = ["--protocol", "sampled", "--order", "sft-rl", "--prompt-format", "chat", *words]
    given += ["--model", str(tmp_path / "model"), "--training", "full", "--sft-rate", "0.005"]
    assert qwen_validate.main([*given, "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["config"]["prompt_format"] == "chat" and report["outcome"] == "holds"
    first = lines_of(tmp_path / "run" / "metrics.jsonl")[0]
    assert first["stage"] == "sft"
    # SFT taught the experts' ways, which in a chat begin without a space.
    assert report["averages"][0]["excess_loss"] < 2.0
