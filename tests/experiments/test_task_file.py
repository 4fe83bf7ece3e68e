"""A task of one's own: what is in the file is what is run, and all that is wrong with it is said at once."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import qwen_validate
from tasks import from_minimal_pairs
from validate.configuration import configuration
from validate.enumerated.inputs import inputs_of
from validate.enumerated.task_file import load_task
from validate.errors import InputError

SAMPLE = Path(from_minimal_pairs.__file__).with_name("minimal_pairs.jsonl")
GOOD = {"prompt": "It is", "responses": [" hot.", " cold."], "law": [0.75, 0.25], "rewards": [1, 0]}
SHORT = ["--sft-steps", "12", "--rl-steps", "12", "--checkpoint-every", "6", "--order", "sft-rl"]


def written(folder, *lines):
    path = folder / "task.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        load_task(path)
    return str(caught.value)


def test_a_task_is_what_the_file_says(tmp_path):
    other = {**GOOD, "prompt": "Was it", "law": [1.0, 0.0], "rewards": [-1, 2.5], "other": -3}
    task = load_task(written(tmp_path, GOOD, other))
    np.testing.assert_allclose(np.exp(task.log_d), [[0.75, 0.25, 0], [1, 0, 0]])
    assert task.log_d[1, 1] == -math.inf
    np.testing.assert_array_equal(task.reward, [[1, 0, 0], [-1, 2.5, -3]])
    assert task.texts == ["It is", " hot.", " cold.", "Was it", " hot.", " cold."]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": " "}, "prompt is ' '; write a text"),
        ({"prompt": 3}, "prompt is 3; write a text"),
        ({"responses": [" hot."]}, "list at least two texts"),
        ({"responses": " hot."}, "list at least two texts"),
        ({"responses": [" hot.", ""]}, "list at least two texts"),
        ({"responses": [" hot.", " hot."]}, "responses has ' hot.' twice; leave one out"),
        ({"law": [1]}, "law is [1]; give a finite number for each of the 2 responses"),
        ({"law": [0.5, "0.5"]}, "give a finite number"),
        ({"law": [0.5, True]}, "give a finite number"),
        ({"law": [0.5, math.nan]}, "give a finite number"),
        ({"law": [1.5, -0.5]}, "law has the negative probability -0.5"),
        ({"law": [3, 1]}, "law sums to 4; divide by that"),
        ({"rewards": [math.inf, 0]}, "rewards is [inf, 0]; give a finite number"),
        ({"rewards": [10**400, 0]}, "give a finite number"),
        ({"other": None}, "other is None; give a finite number"),
        ({"rewards": [0, 0]}, "all rewards are 0.0, that of other included"),
        ({"reward": [1, 0]}, "reward is no field; there are law, other, prompt, responses"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(tmp_path, change, words):
    path = written(tmp_path, {**GOOD, "prompt": "First"}, {**GOOD, **change})
    message = refusal(path)
    assert message.startswith(f"--task {path}: 1 problem:\n  line 2: ") and words in message


def test_all_problems_are_one_message(tmp_path):
    missing = {name: value for name, value in GOOD.items() if name not in ("law", "rewards")}
    three = {**GOOD, "prompt": "x", "responses": ["a", "b", "c"], "law": [1, 0, 0]}
    wrong = {**GOOD, "law": [2, 2], "rewards": [0, 0]}
    message = refusal(
        written(tmp_path, GOOD, "{", "[]", missing, wrong, GOOD, {**three, "rewards": [1, 2, 3]})
    )
    lines = message.splitlines()
    assert lines[0].endswith("8 problems:")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        f"line {number}" for number in (2, 3, 4, 4, 5, 5, 6, 7)
    ]
    assert "the prompt of line 1 again" in message and "3 responses, where line 1 has 2" in message
    assert "8 problems" not in refusal(written(tmp_path, *["{"] * 30))
    assert "30 problems, the first 10:" in refusal(written(tmp_path, *["{"] * 30))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "could not be read (No such file" in refusal(tmp_path / "nowhere.jsonl")
    assert "could not be read (Is a directory" in refusal(tmp_path)
    assert "could not be read (File name too long" in refusal(tmp_path / ("x" * 300))
    assert "is empty" in refusal(written(tmp_path))
    (tmp_path / "task.jsonl").write_bytes("é".encode("latin1"))
    assert "is not UTF-8" in refusal(tmp_path / "task.jsonl")


def test_the_rewards_and_the_number_of_prompts_are_those_of_the_file(tmp_path):
    path = str(written(tmp_path, GOOD, {**GOOD, "prompt": "Was it"}))
    config = configuration({"task": path})
    assert (config.prompts, config.reward) == (0, "file")
    assert len(inputs_of(config).task.prompts) == 2
    assert len(inputs_of(configuration({"task": path, "prompts": 1})).task.prompts) == 1
    with pytest.raises(InputError, match=r"--prompts is 3, but .* has 2"):
        inputs_of(configuration({"task": path, "prompts": 3}))
    with pytest.raises(InputError, match="--reward is 'right', but the rewards are those in the"):
        configuration({"task": path, "reward": "right"})


@pytest.mark.slow  # a whole run
def test_a_run_on_a_task_of_ones_own(tmp_path, capsys):
    path, folder = tmp_path / "mine.jsonl", tmp_path / "run"
    lines = SAMPLE.read_text().splitlines(keepends=True)[:3]
    path.write_text("".join(lines))
    status = qwen_validate.main(["--task", str(path), *SHORT, "--out", str(folder)])
    assert status in (0, 3)
    report = json.loads((folder / "report.json").read_text())
    assert report["counts"]["REFUTED"] == 0
    assert report["data_reward"] == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert "3 prompts" in report["not_shown"][0] and "2 candidates" in report["not_shown"][1]
    path.write_text("".join(lines[::-1]))
    assert qwen_validate.main(["--out", str(folder), "--resume"]) == 2
    assert "mine.jsonl is not what it was when the run" in " ".join(capsys.readouterr().err.split())
    inputs = (folder / "inputs.json").read_text()
    (folder / "inputs.json").write_text(inputs.replace('"task": "', '"task": "0'))
    assert qwen_validate.main(["--out", str(folder), "--resume"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "inputs.json is damaged" in message and "bring it back as it was" in message


def test_a_task_that_the_model_cannot_hold_leaves_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nondecoupling.lm.language_model.LanguageModel.context", 3)
    given = ["--task", str(SAMPLE), *SHORT, "--out", str(tmp_path / "run")]
    assert qwen_validate.main(given) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "40 prompts with their longest responses" in message and "context of 3" in message
    assert not (tmp_path / "run").exists()


def test_the_sample_is_made_of_minimal_pairs(tmp_path, capsys):
    task = load_task(SAMPLE)
    assert len(task.prompts) == 40
    assert (task.reward == [1, 0, 0]).all()
    pair = {"sentence_good": "She left.", "sentence_bad": "She leave.", "one_prefix_method": True}
    pair |= {"one_prefix_prefix": "She"}
    whole = {**pair, "one_prefix_method": False}
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps(p) + "\n" for p in (whole, pair, pair))
    )
    from_minimal_pairs.main([str(tmp_path / "pairs.jsonl")])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"prompt": "She", "responses": [" left.", " leave."], "law": [0.9, 0.1], "rewards": [1, 0]}
    ]
