"""Rollouts from files of TRL, of verl and of one's own, and the command that watches them."""

import json
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from nondecoupling.forecast import RewardOutsideBounds
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


def test_columns_are_weighted_in_their_order(tmp_path):
    rows = [{"prompt": "a", "x": 1.0, "y": 0.5}, {"prompt": "a", "x": None, "y": 1.0}]
    (tmp_path / "3.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for names, weights in ((["x", "y"], [2.0, 0.5]), (["y", "x"], [0.5, 2.0])):
        (found,) = read_rollouts([tmp_path], rewards=names, reward_weights=weights)
        assert found.rewards.tolist() == [(2.25 + 0.5) / 2]
    for names in ([], ["x"]):
        with pytest.raises(
            ValueError, match=r"reward_weights=\[2.0, 0.5\] for . columns?: name one"
        ):
            read_rollouts([tmp_path], rewards=names, reward_weights=[2.0, 0.5])


def test_each_row_lies_within_the_bounds_of_the_samples(tmp_path):
    rows = [{"prompt": "a", "x": x, "y": 0.5} for x in (1.0, 0.0, 2.0)]
    (tmp_path / "3.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (found,) = read_rollouts([tmp_path], rewards=["x", "y"], reward_bounds=(0.5, 2.5))
    assert found.rewards.tolist() == [1.5]
    for bounds in ((0.5, 2.0), (-1.0, 1.5)):
        told = rf"3.jsonl, row 3, x \+ y=2.5: outside reward_bounds=\({bounds[0]}, {bounds[1]}\) of"
        with pytest.raises(RewardOutsideBounds, match=told):
            read_rollouts([tmp_path], rewards=["x", "y"], reward_bounds=bounds)
    told = r"row 1, 1 \* x \+ -2 \* y=0.0: outside .* name the column .* rewards=\['accuracy'\]"
    with pytest.raises(RewardOutsideBounds, match=told):
        read_rollouts(
            [tmp_path], rewards=["x", "y"], reward_weights=[1, -2], reward_bounds=(0.5, 2.5)
        )


@pytest.mark.parametrize("kind", [float, lambda x: float(np.float32(x))])
def test_rewards_of_a_trainer_in_float32_lie_within_the_bounds(tmp_path, kind):
    rows = [{"prompt": "a", "x": kind(1.0), "y": kind(y)} for y in (0.1, -0.6)]
    path = tmp_path / "3.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (found,) = read_rollouts([path], rewards=["x", "y"], reward_bounds=(0.4, 1.1))
    assert found.rewards.tolist() == [(1.1 + 0.4) / 2]
    (found,) = read_rollouts(
        [path], rewards=["x", "y"], reward_weights=[1e3, 1e3], reward_bounds=(400, 1100)
    )
    assert found.rewards.tolist() == [750]


@pytest.mark.parametrize(
    ("y", "bounds"), [(0.1 + 2e-7, (0.0, 1.1)), (-0.7 - 3e-7, (0.3, 1.1)), (-1 - 3e-7, (0.0, 1.1))]
)
def test_rewards_further_out_than_rounding_are_refused(tmp_path, y, bounds):
    path = tmp_path / "3.jsonl"
    path.write_text(json.dumps({"prompt": "a", "x": 1.0, "y": y}))
    with pytest.raises(RewardOutsideBounds, match=r"row 1, x \+ y="):
        read_rollouts([path], rewards=["x", "y"], reward_bounds=bounds)


VALIDATION = {"input": "a", "output": "x", "gts": "1", "score": 0.5, "step": 1, "reward": 0.5}


@pytest.mark.parametrize(
    "row",
    [
        VALIDATION | {"acc": 0.5},
        VALIDATION | {"prompt": "a"},
        {"prompt": "a", "input": "b", "reward": 0.5},
        {"prompt": "b", "input": "a", "score": 0.5},
        {"prompt": "a", "input": "a", "accuracy": 0.5},
    ],
)
def test_known_names_that_say_the_same_or_are_no_pair_need_no_choice(tmp_path, row):
    path = tmp_path / "1.jsonl"
    nothing = row | {name: math.nan for name in ("score", "reward", "accuracy") if name in row}
    path.write_text("\n".join(map(json.dumps, [row, nothing])))
    assert [found.rewards.tolist() for found in read_rollouts([path])] == [[0.5]]


def test_the_pair_of_a_named_reward_is_the_one_it_has_unnamed(tmp_path):
    rows = [{"prompt": p, "input": "x", "reward": r} for p, r in (("a", 0.0), ("b", 1.0))]
    (tmp_path / "1.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for names in ([], ["reward"]):
        (found,) = read_rollouts([tmp_path], rewards=names)
        assert found.rewards.tolist() == [0.0, 1.0]


def test_two_known_names_of_one_column_are_not_chosen_from(tmp_path):
    row = {"input": "a", "output": "x", "score": 0.0, "step": 1, "acc": 0.0, "reward": 1.0}
    path = tmp_path / "1.jsonl"
    path.write_text(json.dumps(row))
    told = r"'reward' and 'score': say which one is that of the reward, as rewards=\['reward'\]$"
    with pytest.raises(ValueError, match=told):
        read_rollouts([path])
    for name in ("reward", "score"):
        (found,) = read_rollouts([path], rewards=[name])
        assert found.rewards.tolist() == [row[name]]
    told = r"'prompt' and 'input': say which one is that of the prompt, as prompt='prompt'$"
    for names in ({"reward": 1.0, "score": 1.0}, {"accuracy": 1.0}):
        path.write_text(json.dumps({"prompt": "a", "input": "b"} | names))
        with pytest.raises(ValueError, match=told):
            read_rollouts([path])
        assert read_rollouts([path], prompt="input")


def test_a_reward_function_of_trl_may_be_called_score(tmp_path):
    trl(tmp_path, 1, [0.0, 1.0])
    path = tmp_path / "completions_00001.parquet"
    frame = pd.read_parquet(path).rename(columns={"accuracy": "score"})
    frame.to_parquet(path)
    assert [found.rewards.tolist() for found in read_rollouts([path])] == [[0.5]]
    frame.assign(format=1.0).to_parquet(path)
    with pytest.raises(ValueError, match=r"'score', .*'format'.*name that of the reward"):
        read_rollouts([path])


def test_another_count_of_steps_is_no_single_policy(tmp_path):
    rows = [{"prompt": "a", "reward": 1, "global_step": step} for step in (0, 100)]
    path = tmp_path / "100.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    told = r"100.jsonl, global_step=0, 100: rollouts of several policies; call that column 'step'"
    with pytest.raises(ValueError, match=told):
        read_rollouts([path])
    path.write_text("\n".join(json.dumps(row | {"step": row["global_step"]}) for row in rows))
    assert [found.step for found in read_rollouts([path])] == [0, 100]


@pytest.mark.parametrize(
    ("name", "counts", "step"),
    [
        ("rank_7", {"global_step": 20}, 20),
        ("rank_7", {"iteration": 3, "global_step": "20", "epoch": 1}, 20),
        ("dump", {"train_step": 20.0}, 20),
        ("20", {"global_step": 20, "iteration": 3}, 20),
        ("20", {"epoch": 1}, 20),
        ("part_20", {"global_step": 0.5}, 20),
        ("part_20", {"global_step": -1}, 20),
    ],
)
def test_a_count_that_all_rows_share_is_the_step_and_else_the_name_says_it(
    tmp_path, name, counts, step
):
    (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "a", "reward": 1} | counts))
    assert [found.step for found in read_rollouts([tmp_path])] == [step]


def test_a_file_called_by_another_step_than_its_rows_say_is_refused(tmp_path):
    path = tmp_path / "100.jsonl"
    path.write_text(json.dumps({"prompt": "a", "reward": 1, "global_step": 7}))
    told = (
        r"100.jsonl, global_step=7: the file's name says step 100; rename it, as 7.jsonl, or that"
    )
    with pytest.raises(ValueError, match=told):
        read_rollouts([path])
    path.rename(tmp_path / "7.jsonl")
    assert [found.step for found in read_rollouts([tmp_path])] == [7]


@pytest.mark.parametrize("column", ["reward", "accuracy"])
def test_decimals_of_parquet_are_numbers(tmp_path, column):
    rewards = [Decimal("0.25"), Decimal("0.75")]
    frame = pd.DataFrame({"prompt": ["a", "a"], column: rewards, "step": [1, 1]})
    frame.to_parquet(tmp_path / "1.parquet")
    assert [found.rewards.tolist() for found in read_rollouts([tmp_path])] == [[0.5]]


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
            "completions_00010.parquet, row 1, accuracy=3.0: outside --reward-low 0.0",
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
