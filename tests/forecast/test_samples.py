"""Samples and their files: what is read, and what is refused by name."""

from __future__ import annotations

import builtins
import json
import math
from decimal import Decimal

import numpy as np
import pytest

from nondecoupling.forecast import (
    NoSpread,
    RaggedRows,
    RepeatedPrompts,
    RewardOutsideBounds,
    Samples,
    TooFewPrompts,
    forecast,
)

ROWS = [[0.0, 1.0], [1.0, 1.0]] * 10
UNIT = (0.0, 1.0)


def changed(row, values):
    return [values if place == row else old for place, old in enumerate(ROWS)]


REFUSED = [
    (dict(ref_rewards=changed(3, [0, 2])), RewardOutsideBounds, r"ref_rewards\[3, 1\]=2.0.*bounds"),
    (
        dict(ref_rewards=changed(3, [0, np.nan])),
        ValueError,
        r"ref_rewards\[3, 1\]=nan: must be fin",
    ),
    (dict(ref_rewards=changed(3, [0])), RaggedRows, r"ref_rewards\[3\] has 1 responses"),
    (dict(ref_rewards=ROWS[:4]), TooFewPrompts, "4 prompts: give at least 16"),
    (dict(ref_rewards=[[1, 1], [0, 0]] * 10), NoSpread, "one reward.*another difficulty"),
    (dict(ref_rewards=[[0]] * 20), ValueError, "1 responses to a prompt: give at least 2"),
    (dict(ref_rewards=[0, 1] * 20), ValueError, r"give \[prompts, responses\]"),
    (dict(reward_bounds=(1, 0)), ValueError, "low < high"),
    (dict(prompt_ids=["a", "b"] * 10), RepeatedPrompts, "'a' occurs 10 times; put all"),
    (dict(prompt_ids=["a"]), ValueError, "one prompt label for each of the 20"),
    (dict(expert_rewards=[[1.0]] * 19), ValueError, "19 rows, ref_rewards 20"),
    (
        dict(expert_rewards=[[1.0], *[[1.0, 0.0]] * 19]),
        RaggedRows,
        r"expert_rewards\[1\] has 2 responses.*the first 1 of each$",
    ),
    (dict(expert_rewards=[[3.0]] * 20), RewardOutsideBounds, r"expert_rewards\[0, 0\]=3.0"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED)
def test_what_is_wrong_has_a_name(change, error, message):
    arguments = dict(ref_rewards=ROWS, reward_bounds=UNIT) | change
    with pytest.raises(error, match=message):
        Samples(**arguments)


def test_rewards_in_float32_lie_within_the_bounds():
    tenths = np.array(ROWS, dtype=np.float32) * np.float32(0.1)
    samples = Samples(tenths, reward_bounds=(0, 0.1), expert_rewards=tenths)
    np.testing.assert_array_equal(samples.ref_rewards, np.array(ROWS) * 0.1)
    np.testing.assert_array_equal(samples.expert_rewards, np.array(ROWS) * 0.1)
    below = Samples(-tenths, reward_bounds=(-0.1, 0))
    assert below.ref_rewards.min() == -0.1
    for beyond in (0.1 + 2e-8, -2e-8):
        with pytest.raises(RewardOutsideBounds, match=r"ref_rewards\[0, 1\]="):
            Samples(np.array(ROWS) * beyond, reward_bounds=(0, 0.1))


def test_the_order_of_the_prompts_is_kept_together():
    rows = np.random.default_rng(0).random((30, 4))
    samples = Samples(
        rows, reward_bounds=UNIT, expert_rewards=rows[:, :1], prompt_ids=list(range(30))
    )
    mixed = samples.in_random_order()
    assert mixed.prompt_ids != samples.prompt_ids
    own = np.sort(rows[mixed.prompt_ids], axis=1)
    np.testing.assert_array_equal(np.sort(mixed.ref_rewards, axis=1), own)
    np.testing.assert_array_equal(mixed.expert_rewards, rows[mixed.prompt_ids, :1])


# --- files --------------------------------------------------------------------------------------


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_one_line_per_prompt_and_one_per_response_are_the_same(tmp_path):
    by_prompt = [{"q": f"p{x}", "r": row, "e": row[:1]} for x, row in enumerate(ROWS)]
    by_response = [{"input": r["q"], "score": value} for r in by_prompt for value in r["r"]]
    one = Samples.from_jsonl(
        written(tmp_path / "a.jsonl", by_prompt),
        reward_bounds=UNIT, prompt="q", reward="r", expert_reward="e",
    )  # fmt: skip
    two = Samples.from_jsonl(written(tmp_path / "b.jsonl", by_response), reward_bounds=UNIT)
    np.testing.assert_array_equal(one.ref_rewards, ROWS)
    np.testing.assert_array_equal(two.ref_rewards, ROWS)
    np.testing.assert_array_equal(one.expert_rewards, np.array(ROWS)[:, :1])
    assert one.prompt_ids == two.prompt_ids == [f"p{x}" for x in range(20)]


def test_chat_messages_are_prompts(tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": f"{x}"}], "reward": row}
        for x, row in enumerate(ROWS)
    ]
    path = written(tmp_path / "chat.jsonl", rows)
    assert Samples.from_jsonl(path, reward_bounds=UNIT).prompts == 20


BROKEN = [
    ([], "is empty"),
    ([{"question": "a", "accuracy": 1}], "columns 'question', 'accuracy': name those"),
    ([{"prompt": "a", "reward": "high"}], "row 1, reward='high': give a number"),
    ([{"prompt": "a", "reward": None}], "row 1, reward=None: give a number"),
    (
        [{"prompt": "a", "reward": 1}, {"prompt": "a"}],
        "row 2: no column 'reward'; .* name columns that every",
    ),
    (
        [{"prompt": "a", "reward": 1.0}, {"prompt": "a", "reward": math.nan}],
        "x.jsonl, row 2, reward=nan: give a number or a list of numbers, all finite; .* whole prompt",
    ),
    ([{"prompt": "a", "reward": [1, 0]}] * 2, "row 2: prompt 'a' was complete before"),
    ([[1, 2]], "line 1=.*give one object on each line"),
    (
        [{"prompt": f"p{x // 2}", "reward": x % 2, "step": x // 32} for x in range(64)],
        r"x.jsonl, step=0, 1: responses of several policies; .* made, as step=0$",
    ),
    ([{"prompt": "a", "reward": [1, 0], "step": [3, 4]}], "step=3, 4: responses of several"),
    (
        [{"prompt": "a", "reward": 1, "step": 0}, {"prompt": "a", "reward": 0}],
        "step=0, None: responses of several",
    ),
    (
        [{"prompt": "a", "reward": 1, "global_step": x} for x in (100, "0")],
        "global_step=100, 0: responses of several policies; rename .*, as step=100$",
    ),
    (
        [{"prompt": "a", "reward": 1, "step": 5, "epoch": x} for x in (0.5, 1.5)],
        "x.jsonl, epoch=0.5, 1.5: responses of several policies; .* start policy alone$",
    ),
    (
        [{"input": "a", "score": 1, "reward": 0}],
        "'reward' and 'score': say which one is that of the reward, as reward='reward'$",
    ),
    (
        [{"input": "a", "prompt": "b", "reward": 0, "score": 0}],
        "'prompt' and 'input': say which one is that of the prompt, as prompt='prompt'$",
    ),
    ([{"input": "a", "reward": 0}], "'input', 'reward': name those of the prompt and its reward"),
]


@pytest.mark.parametrize(("rows", "message"), BROKEN)
def test_a_broken_file_is_refused(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Samples.from_jsonl(written(tmp_path / "x.jsonl", rows), reward_bounds=UNIT)


def test_one_step_of_several_is_chosen(tmp_path):
    by_step = [
        {"input": f"p{x // 2}", "score": value, "step": step}
        for step in (0, 1)
        for x, value in enumerate(np.ravel(ROWS) if step == 0 else 1 - np.ravel(ROWS))
    ]
    path = written(tmp_path / "dump.jsonl", by_step)
    for step, rows in ((0, np.array(ROWS)), (1, 1 - np.array(ROWS))):
        samples = Samples.from_jsonl(path, reward_bounds=UNIT, step=step)
        np.testing.assert_array_equal(samples.ref_rewards, rows)
    with pytest.raises(ValueError, match=r"step=7: .*has none of it, but step=0, 1; choose one"):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=7)
    written(path, [{"input": "a", "score": 1}])
    with pytest.raises(ValueError, match=r"step=0: .*has no column 'step'; leave it out"):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=0)


@pytest.mark.parametrize("column", ["step", "global_step", "iteration"])
@pytest.mark.parametrize("kind", [str, float])
def test_a_step_is_chosen_whatever_it_is_called_and_however_it_is_written(tmp_path, column, kind):
    rows = [
        {"prompt": f"p{x}", "reward": row if step == 20 else [1, 1], column: kind(step)}
        | {"epoch": step / 2}
        for step in (1, 20)
        for x, row in enumerate(ROWS)
    ]
    path = written(tmp_path / "dump.jsonl", rows)
    samples = Samples.from_jsonl(path, reward_bounds=UNIT, step=20)
    np.testing.assert_array_equal(samples.ref_rewards, ROWS)
    with pytest.raises(ValueError, match=f"step=3: .*has none of it, but {column}=1, 20; choose"):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=3)


def test_a_step_that_comes_again_in_another_epoch_is_no_single_policy(tmp_path):
    rows = [
        {"prompt": f"p{x}", "reward": [0, 1], "step": step, "epoch": epoch}
        for epoch in (0, 1)
        for step in (0, 1)
        for x in range(20)
    ]
    path = written(tmp_path / "dump.jsonl", rows)
    told = r"dump.jsonl, step 0, epoch=0, 1: responses of several policies; .* policy alone$"
    with pytest.raises(ValueError, match=told):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=0)


@pytest.mark.parametrize("others", [{}, {"epoch": 0.5}])
def test_a_step_is_that_of_the_first_column_that_has_it(tmp_path, others):
    rows = [
        {"prompt": f"p{x}", "reward": [0, 1], "step": 20, "iteration": place} | others
        for place in range(4)
        for x in range(20 * place, 20 * place + 20)
    ]
    path = written(tmp_path / "dump.jsonl", rows)
    told = r"dump.jsonl, step 20, iteration=0, 1, 2, 3: responses of several policies; rename"
    with pytest.raises(ValueError, match=told):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=20)
    chosen = Samples.from_jsonl(path, reward_bounds=UNIT, step=2)
    assert chosen.prompt_ids == [f"p{x}" for x in range(40, 60)]


def test_no_step_is_proposed_that_another_column_has_throughout(tmp_path):
    rows = [
        {"prompt": f"p{x}", "reward": [0, 1], "step": 0, "iteration": x // 20} for x in range(40)
    ]
    path = written(tmp_path / "dump.jsonl", rows)
    told = r"dump.jsonl, iteration=0, 1: responses of several policies; .* policy alone$"
    with pytest.raises(ValueError, match=told):
        Samples.from_jsonl(path, reward_bounds=UNIT)


@pytest.mark.parametrize("name", ["score", "reward"])
def test_two_names_of_the_same_rewards_need_no_choice(tmp_path, name):
    rows = [{"input": f"p{x}", "score": row, "reward": row} for x, row in enumerate(ROWS)]
    path = written(tmp_path / "dump.jsonl", rows)
    assert Samples.from_jsonl(path, reward_bounds=UNIT).ref_rewards.tolist() == ROWS
    written(path, [*rows[:-1], rows[-1] | {name: [0.0, 1.0]}])
    with pytest.raises(ValueError, match="'reward' and 'score': say which"):
        Samples.from_jsonl(path, reward_bounds=UNIT)


@pytest.mark.parametrize("reward", ["reward", "score"])
def test_of_two_known_names_the_one_that_is_named_is_read(tmp_path, reward):
    rows = [{"input": f"p{x}", "score": row, "reward": [0.5, 0.25]} for x, row in enumerate(ROWS)]
    path = written(tmp_path / "dump.jsonl", rows)
    samples = Samples.from_jsonl(path, reward_bounds=UNIT, reward=reward)
    np.testing.assert_array_equal(samples.ref_rewards, [row[reward] for row in rows])


def test_decimals_of_parquet_are_numbers(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    tenths = [[Decimal(value).quantize(Decimal("0.1")) for value in row] for row in ROWS]
    table = {"prompt": [f"p{x}" for x in range(20)], "reward": tenths, "w": [Decimal("2.5")] * 20}
    parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    samples = Samples.from_parquet(tmp_path / "d.parquet", reward_bounds=UNIT, weight="w")
    np.testing.assert_array_equal(samples.ref_rewards, ROWS)
    assert samples.weights.tolist() == [2.5] * 20


def test_rows_of_a_chosen_step_have_their_places_in_the_file(tmp_path):
    rows = [
        {"prompt": f"p{x}", "reward": [0, 1] if x < 16 else "?", "step": x // 16} for x in range(32)
    ]
    path = written(tmp_path / "dump.jsonl", rows)
    with pytest.raises(ValueError, match="row 17, reward="):
        Samples.from_jsonl(path, reward_bounds=UNIT, step=1)


def test_rows_of_one_step_are_read_as_they_are(tmp_path):
    rows = [{"prompt": f"p{x}", "reward": row, "step": 5} for x, row in enumerate(ROWS)]
    path = written(tmp_path / "dump.jsonl", rows)
    assert Samples.from_jsonl(path, reward_bounds=UNIT).prompts == 20


@pytest.mark.parametrize("ragged", [True, False])
def test_each_reward_has_its_log_probability(tmp_path, ragged):
    """Padded by themselves, rows of other lengths would put 0 in the place of a log-probability."""
    rows = [
        {"prompt": f"p{x}", "reward": [0, 1, 1][x % 2 :], "lp": [-1, -2, -3][1 - x % 2 :]}
        for x in range(20)
    ]
    options = dict(reward_bounds=UNIT, ragged=ragged, log_prob="lp")
    with pytest.raises(ValueError, match="row 1: 2 numbers in 'lp', 3 in 'reward'; give one log"):
        Samples.from_jsonl(written(tmp_path / "x.jsonl", rows), **options)
    rows = [{"prompt": f"p{x}", "reward": [0, 1], "e": [1], "lp": [-1, -2]} for x in range(20)]
    options = dict(reward_bounds=UNIT, expert_reward="e", expert_log_prob="lp")
    with pytest.raises(ValueError, match="2 numbers in 'lp', 1 in 'e'"):
        Samples.from_jsonl(written(tmp_path / "x.jsonl", rows), **options)


@pytest.mark.parametrize("read", [Samples.from_jsonl, Samples.from_parquet])
def test_a_file_that_is_not_there_or_of_another_kind_is_named(tmp_path, read):
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match=r"no\.file: no such file"):
        read(tmp_path / "no.file", reward_bounds=UNIT)
    (tmp_path / "other").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(
        ValueError, match=r"other(: no Parquet file that| is a Parquet file, where JSON is read)"
    ):
        read(tmp_path / "other", reward_bounds=UNIT)


def test_a_line_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "reward": 1}\n{"prompt"\n')
    with pytest.raises(ValueError, match="line 2: not JSON"):
        Samples.from_jsonl(path, reward_bounds=UNIT)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"prompt": [f"p{x // 2}" for x in range(40)], "accuracy": np.ravel(ROWS).tolist()}
    parquet.write_table(pyarrow.table(table), tmp_path / "completions.parquet")
    samples = Samples.from_parquet(
        tmp_path / "completions.parquet", reward_bounds=UNIT, reward="accuracy"
    )
    np.testing.assert_array_equal(samples.ref_rewards, ROWS)


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    def without(name, *arguments, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return imported(name, *arguments, **more)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ImportError, match=r"x\.parquet: .* pip install pyarrow, or write .* JSON lines"
    ):
        Samples.from_parquet(tmp_path / "x.parquet", reward_bounds=UNIT)


def test_a_forecast_is_made_of_samples():
    with pytest.raises(ValueError, match=r"samples=\[\[.*give Samples"):
        forecast(ROWS)
