"""Rollouts from files of TRL, of verl and of one's own, and the command that watches them."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from nondecoupling.monitor import PriceCurves, read_rollouts
from nondecoupling.monitor.prices import Bounded
from tests.command_line import invoke

PROMPTS = [f"problem {i}" for i in range(40)]


def trl(folder, step, rewards):
    """As GRPOTrainer.log writes it: two responses to each prompt here."""
    prompts = np.repeat(PROMPTS[: len(rewards) // 2], 2)
    table = {"step": step, "prompt": prompts, "completion": "x", "accuracy": rewards}
    frame = pd.DataFrame(table | {"advantage": 0.5})
    frame.to_parquet(folder / f"completions_{step:05d}.parquet")


def verl(path, rewards, step=None):
    lines = [
        {"input": PROMPTS[i // 2], "output": "x", "gts": "1", "score": r}
        | ({} if step is None else {"step": step})
        for i, r in enumerate(rewards)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def test_rollouts_of_trl_are_averaged_by_prompt(tmp_path):
    trl(tmp_path, 20, [1.0, 0.0, 1.0, 1.0])
    trl(tmp_path, 10, [0.0, 0.0, 1.0, 0.0])
    (tmp_path / "notes.txt").write_text("not a rollout")
    first, second = read_rollouts([tmp_path])
    assert (first.step, second.step) == (10, 20)
    assert first.rewards.tolist() == [0.0, 0.5] and second.rewards.tolist() == [0.5, 1.0]


def test_rollouts_of_verl_have_their_step_in_a_column_or_in_the_name(tmp_path):
    verl(tmp_path / "5.jsonl", [1.0, 0.0])
    verl(tmp_path / "dump.jsonl", [1.0, 1.0], step=7)
    assert [(r.step, r.rewards.tolist()) for r in read_rollouts(sorted(tmp_path.iterdir()))] == [
        (5, [0.5]),
        (7, [1.0]),
    ]


def test_columns_are_named_and_added_up(tmp_path):
    row = {"step": 3, "question": "?", "right": 1.0, "short": 0.25, "prompt": "other"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    (found,) = read_rollouts([tmp_path], prompt="question", rewards=["right", "short"])
    assert found.rewards.tolist() == [1.25]
    with pytest.raises(ValueError, match=r"'right', 'short', 'prompt': name that of the reward"):
        read_rollouts([tmp_path])
    with pytest.raises(ValueError, match=r"'prompt', and no 'query': name that of the prompt"):
        read_rollouts([tmp_path], prompt="query")
    with pytest.raises(ValueError, match=r"'prompt', and no 'long': name that of the reward"):
        read_rollouts([tmp_path], rewards=["right", "long"])


def test_a_column_that_says_nothing_of_the_first_row_is_not_overlooked(tmp_path):
    trl(tmp_path, 1, [None, 1.0])
    frame = pd.read_parquet(tmp_path / "completions_00001.parquet").assign(format=[0.5, None])
    frame.to_parquet(tmp_path / "completions_00001.parquet")
    with pytest.raises(ValueError, match=r"'accuracy'.*'format'.*name that of the reward"):
        read_rollouts([tmp_path])
    (found,) = read_rollouts([tmp_path], rewards=["accuracy", "format"])
    assert found.rewards.tolist() == [0.75]


def test_rows_without_a_reward_are_left_out_as_in_a_training(tmp_path):
    rows = [{"prompt": "a", "x": None}, {"prompt": "a", "x": 1.0}, {"prompt": "b", "x": math.nan}]
    (tmp_path / "1.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "2.jsonl").write_text(json.dumps({"prompt": "a", "x": None, "y": 0.0}))
    (first,) = read_rollouts([tmp_path], rewards=["x"])
    assert (first.step, first.rewards.tolist()) == (1, [1.0])


STEPS = '{{"prompt": "a", "reward": 1, "step": 1}}\n{{"prompt": "a", "reward": 1, "step": {step}}}'


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        (
            "1.jsonl",
            '{"prompt": "a", "reward": NaN}',
            "1.jsonl: no rollouts with a reward, as each row says None or NaN of it; name another",
        ),
        ("1.jsonl", '{"prompt": "a", "reward": [0, 1]}', "reward=.0, 1.: .* one row for each resp"),
        ("1.jsonl", '{"prompt": "a", "reward": Infinity}', "row 1, reward=inf"),
        ("1.jsonl", '{"prompt": "a", "reward": 1}\n{"reward": 1}', "row 2: no prompt"),
        ("1.jsonl", '{"prompt": "a", "reward": "good"}', "reward='good'"),
        ("1.jsonl", '{"text": "a", "reward": 1}', "name that of the prompt"),
        ("1.jsonl", '{"prompt": 1.0, "reward": 1}', "row 1, prompt=1.0: give a text, or chat"),
        (
            "1.jsonl",
            '{"prompt": 1, "reward": 1}\n{"prompt": "1", "reward": 0}',
            "1.jsonl, row 2, prompt='1', and before it 1: give whole numbers or texts, not both",
        ),
        ("1.jsonl", "", "1.jsonl: no rollouts, as there are no rows; give files that a trainer"),
        ("1.jsonl", "{", "line 1: not JSON .*: '{'; give one object on each line"),
        ("dump.jsonl", '{"prompt": "a", "reward": 1}', "no column 'step'"),
        ("1.jsonl", STEPS.format(step="null"), "1.jsonl, row 2, step=None"),
        ("1.jsonl", STEPS.format(step='"last"'), "row 2, step='last'"),
        ("1.jsonl", STEPS.format(step="2.5"), "row 2, step=2.5"),
        ("1.jsonl", STEPS.format(step="[2]"), r"row 2, step=\[2\]"),
        ("1.jsonl", STEPS.format(step="true"), "row 2, step=True"),
        ("1.jsonl", STEPS.format(step="-1"), "row 2, step=-1"),
        ("1.jsonl", '{"prompt": "a", "reward": 1' + "0" * 400 + "}", "1.jsonl, row 1, reward=1000"),
        ("1.jsonl", b"\xff\xfe", "1.jsonl"),
        ("1.jsonl", b"\x1f\x8b\x08", "1.jsonl is compressed by gzip: unpack it"),
        ("1.parquet", "no parquet", "1.parquet: no Parquet file that can be read: it begins with"),
        ("1.csv", "a,b", "1.csv: give .parquet or .jsonl files"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, named):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=named):
        read_rollouts([path])


def test_a_name_that_is_nowhere_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="completion: no such file or folder; give what"):
        read_rollouts([tmp_path / "completion"])
    with pytest.raises(ValueError, match="paths is empty: give files"):
        read_rollouts([])


def test_the_output_folder_of_trl_stands_for_its_completions(tmp_path):
    for name in ("checkpoint-20", "completions"):
        (tmp_path / name).mkdir()
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(
        ValueError,
        match=r"this folder, which has checkpoint-20, completions, trainer_state\.json; TRL writes",
    ):
        read_rollouts([tmp_path])
    trl(tmp_path / "completions", 20, [1.0, 0.0])
    assert [found.step for found in read_rollouts([tmp_path])] == [20]
    verl(tmp_path / "5.jsonl", [1.0, 1.0])  # what lies in the folder itself comes first
    assert [found.step for found in read_rollouts([tmp_path])] == [5]


def test_an_empty_folder_among_others_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    verl(tmp_path / "5.jsonl", [1.0, 1.0])
    with pytest.raises(ValueError, match=r"empty: no \.parquet .* which has nothing"):
        read_rollouts([tmp_path, tmp_path / "empty"])


def test_a_parquet_file_is_known_by_its_content(tmp_path):
    trl(tmp_path, 7, [1.0, 0.0])
    (tmp_path / "completions_00007.parquet").rename(tmp_path / "7.jsonl")
    assert [found.rewards.tolist() for found in read_rollouts([tmp_path])] == [[0.5]]


def test_steps_may_be_whole_floats_and_digits(tmp_path):
    (tmp_path / "x.jsonl").write_text(STEPS.format(step="20.0"))
    (tmp_path / "y.jsonl").write_text(STEPS.format(step='"20"'))
    assert [found.step for found in read_rollouts([tmp_path])] == [1, 20]


def test_whole_numbers_and_chats_tell_prompts_apart(tmp_path):
    chats = [[{"role": "user", "content": text}] for text in "ab"]
    for step, prompts in enumerate([(1, 2), chats]):
        rows = [{"prompt": prompts[x > 2], "reward": x % 2} for x in range(4)]
        (tmp_path / f"{step}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (found,) = read_rollouts([tmp_path / f"{step}.jsonl"])
        np.testing.assert_allclose(found.rewards, [1 / 3, 1.0])


def test_a_prompt_that_is_no_text_is_named(tmp_path):
    frame = pd.DataFrame({"prompt": [b"a"], "reward": [1.0], "step": [1]})
    frame.to_parquet(tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"1\.parquet, row 1, prompt=b'a'"):
        read_rollouts([tmp_path])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Scored responses of a start policy, in a file of one's own."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("start") / "ref.jsonl"
    rows = [{"prompt": p, "reward": (rng.random(16) < 0.4).astype(int).tolist()} for p in PROMPTS]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


BOUNDS = ["--reward-low", "0", "--reward-high", "1"]


@pytest.mark.slow  # curves of prices
def test_the_command_prints_a_line_for_each_step(tmp_path, start):
    rng = np.random.default_rng(1)
    for step, chance in ((10, 0.45), (20, 0.7)):
        trl(tmp_path, step, (rng.random(80) < chance).astype(float))
    command = ["monitor", str(tmp_path), "--samples", str(start), *BOUNDS]
    answer = json.loads(invoke(*command, "--json").output)
    steps = [reading["step"] for reading in answer["readings"]]
    prices = [reading["price"] for reading in answer["readings"]]
    assert steps == [10, 20] and 0 <= prices[0] < prices[1]


def test_misuse_is_told_apart_from_an_alarm(tmp_path, start):
    trl(tmp_path, 10, np.full(80, 3.0))
    for arguments, named in (
        (
            [str(tmp_path), "--samples", str(start), *BOUNDS],
            "FILES, step 10: a prompt has the reward 3",
        ),
        ([str(tmp_path), "--samples", str(tmp_path / "none.parquet")], "no such file"),
        ([str(tmp_path), "--samples", str(start)], "give --reward-low and --reward-high"),
    ):
        shown = invoke("monitor", *arguments)
        assert shown.exit_code == 2 and named in shown.output, shown.output


@pytest.mark.parametrize(("given", "missing"), [("low", "high"), ("high", "low")])
def test_one_bound_alone_is_refused(tmp_path, start, given, missing):
    command = ["monitor", str(tmp_path), "--samples", str(start), f"--reward-{given}", "1"]
    shown = invoke(*command)
    assert shown.exit_code == 2 and f"give --reward-{missing}, the" in shown.output


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_page_that_fails_takes_no_results_with_it(tmp_path, start, as_json, monkeypatch):
    trl(tmp_path, 10, np.zeros(80))  # costs nothing, which is known without the curves

    def no_matplotlib(monitor):
        raise ImportError("no matplotlib")

    def unmade(self, reward):
        return 0.0

    monkeypatch.setattr("nondecoupling.cli.monitor.html", no_matplotlib)
    for name in ("floor", "ceiling"):
        monkeypatch.setattr(PriceCurves, name, unmade)
    monkeypatch.setattr(PriceCurves, "beta", lambda self, reward: Bounded(math.inf))
    command = ["monitor", str(tmp_path), "--samples", str(start), *BOUNDS, "--html", "x.html"]
    shown = invoke(*command, *as_json)
    assert shown.exit_code == 2 and "--html x.html: no matplotlib" in shown.stderr
    assert "overpa" in shown.stdout
