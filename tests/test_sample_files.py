"""A file of scored responses means the same to forecast and to monitor, and what is wrong with it is told alike."""

from __future__ import annotations

import json
import math
import os

import pytest

from nondecoupling.collected import KEY, CollectedSamples, Origin
from tests.command_line import invoke

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

BOUNDS = ["--reward-low", "0", "--reward-high", "1"]
ORIGIN = Origin("a model", "1", "2", "3", 2, 8, 0, 4, (0.0, 1.0), ("right",), "4")


def commands(folder, file):
    """Both, with the prefix of their options about this file; FILES of the monitor comes later and is not reached."""
    return (
        (["forecast", str(file)], "--"),
        (["monitor", str(folder / "20.jsonl"), "--samples", str(file)], "--samples-"),
    )


def written(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def table(prompt="prompt", reward="reward", value=(0, 1), **columns):
    return [{prompt: f"p{x}", reward: list(value)} | columns for x in range(20)]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "samples.jsonl is empty"),
        (table(value=[0, math.nan]), "samples.jsonl, row 1, reward=nan: give a number"),
        (table(value=[0, None]), "row 1, reward=None: give a number"),
        (table(value=[0, 10**400]), "row 1, reward=1000"),
        ([*table(), *table()], "row 21: prompt 'p0' was complete before"),
        ([{"prompt": None, "reward": [0, 1]}], "row 1: no prompt in the column 'prompt'"),
        (table()[:3], "samples.jsonl: ref_rewards has 3 prompts"),
        (table(value=[0, 2]), "outside --reward-low 0.0 --reward-high 1.0; give bounds"),
        (table("question", "accuracy"), "as {}prompt question, {}reward accuracy"),
        ([row | {"step": x} for x, row in enumerate(table())], "policy made, as {}step 0"),
        ([*table(), {"prompt": "p", "reward": [0, 1, 1]}], "a mask (files: {}ragged)"),
        (
            [*table(), {"prompt": 7, "reward": 1}],
            "row 21, prompt=7, and before it 'p0': give whole",
        ),
        ([*table(), {"prompt": 0.5, "reward": 1}], "row 21, prompt=0.5: give a text, or chat mess"),
        ([*table(), {"prompt": True, "reward": 1}], "row 21, prompt=True: give a text, or chat"),
        ([*table(), {"prompt": ["a"], "reward": 1}], "row 21, prompt=['a']: give a text, or chat"),
    ],
)
def test_a_file_of_ones_own_that_is_wrong(tmp_path, rows, named):
    file = written(tmp_path / "samples.jsonl", rows)
    for words, prefix in commands(tmp_path, file):
        shown = invoke(*words, *BOUNDS)
        said = " ".join(shown.output.split())
        assert shown.exit_code == 2 and named.replace("{}", prefix) in said, shown.output


ROWS = json.dumps(table())
LINES = "give one object on each line, as pandas' to_json("


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (
            "a.json",
            ROWS,
            f"'p1', 'reward': [0, 1]}}, {{'pr...: the whole file is one JSON value; {LINES}",
        ),
        (
            "a.json",
            json.dumps(table(), indent=1),
            f"'['; the whole file is one JSON value; {LINES}",
        ),
        (
            "a.csv",
            "prompt,reward\np,1",
            f"a.csv, line 1: not JSON (Expecting value: line 1 column 1 (char 0)): "
            f"'prompt,reward'; {LINES}",
        ),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x08", "a.jsonl.gz is compressed by gzip: unpack it"),
        ("a.zip", b"PK\x03\x04\xff", "a.zip is a zip archive: unpack it"),
        ("a.jsonl", "\ufeff{}".encode("utf-16"), "a.jsonl is no text in UTF-8 ('utf-8' codec"),
        ("a.parquet", ROWS, "a.parquet: no Parquet file that can be read: it begins with b'[{"),
        ("a.parquet", ROWS, "; end the names of JSON lines in .jsonl"),
        ("a.parquet", "", "a.parquet: no Parquet file that can be read: it is empty; end"),
        ("a.parquet", b"PAR1cut", "was it cut off? Write it again"),
        (
            "folder/a.txt",
            "",
            "folder is a folder with a.txt: give one file, or a folder of Parquet",
        ),
        ("folder/_a.txt", "", "folder is an empty folder: give one with Parquet files, or a file"),
    ],
)
def test_a_file_of_another_kind(tmp_path, name, content, named):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = file if file.parent == tmp_path else file.parent
    for words, _ in commands(tmp_path, given):
        shown = invoke(*words, *BOUNDS)
        said = " ".join(shown.output.split())
        assert shown.exit_code == 2 and named in said, shown.output


def test_a_byte_order_mark_is_no_content(tmp_path):
    file = written(tmp_path / "f.jsonl", table())
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert invoke("forecast", str(file), *BOUNDS).exit_code == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--reward-low", "2"], "samples.jsonl: --reward-low 2.0 --reward-high 1.0: give finite"),
        (["--delta", "2"], "Error: --delta 2.0: must lie strictly between"),
        (["--loss-budget", "-1"], "Error: --loss-budget -1.0: must be one positive number"),
    ],
)
def test_a_number_that_is_wrong_is_told_as_an_option(tmp_path, options, named):
    file = written(tmp_path / "samples.jsonl", table())
    for words, _ in commands(tmp_path, file):
        shown = invoke(*words, *BOUNDS, *options)
        said = " ".join(shown.output.split())
        assert shown.exit_code == 2 and named in said, shown.output


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--target", "nan"], "--target nan: choose a reward inside (0, 1)"),
        (["--target", "0.5", "--target", "1"], "--target 1.0: choose a reward inside (0, 1)"),
        (["--reward-target", "inf"], "--reward-target inf: choose a reward inside (0, 1)"),
        (["--run", "0.5,0.1", "--run", "nan,0.2"], "--run 'nan,0.2': give a reward and a change"),
        (["--run", "0.5,-inf"], "--run '0.5,-inf': give a reward and a change of SFT loss, both"),
        (["--run", "0.1,0.5,0.2"], "--run '0.1,0.5,0.2': give a reward and a change"),
        (["--run", "1.01,0.1"], "--run 1.01,0.1: the samples have rewards from 0 to 1; give"),
        (["--run", "-0.2,0.5"], "--run -0.2,0.5: the samples have rewards from 0 to 1; give"),
    ],
)
def test_a_reward_that_is_wrong_is_told_as_an_option(tmp_path, options, named):
    file, page = written(tmp_path / "samples.jsonl", table()), tmp_path / "page.html"
    shown = invoke("forecast", str(file), *BOUNDS, "--html", str(page), *options)
    assert shown.exit_code == 2 and named in " ".join(shown.output.split()), shown.output
    assert not page.exists()


def responses(counts, **columns):
    """One row for each response; right and wrong in turn."""
    return [
        {"prompt": f"p{x}", "reward": y % 2} | columns
        for x, k in enumerate(counts)
        for y in range(k)
    ]


@pytest.mark.parametrize("ragged", [["--ragged"], []])
def test_expert_responses_are_as_many_for_each_prompt(tmp_path, ragged):
    rows = responses([6] * 9 + [5] + [6] * 9, expert=1)
    words = ["forecast", str(written(tmp_path / "f.jsonl", rows)), *BOUNDS]
    shown = invoke(*words, "--expert-reward", "expert", *ragged)
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and "--ragged" not in said, shown.output
    assert "f.jsonl: 6 expert responses to prompt 'p0', 5 to 'p9'; give as many for each" in said
    assert invoke(*words, "--ragged").exit_code == 0
    rows = [{"prompt": f"p{x}", "reward": [0, 1, 1][x % 2 :], "expert": [1, 0]} for x in range(20)]
    written(tmp_path / "f.jsonl", rows)
    assert invoke(*words, "--ragged", "--expert-reward", "expert").exit_code == 0


def test_whole_numbers_tell_prompts_apart_by_themselves(tmp_path):
    rows = [row | {"prompt": int(row["prompt"][1:])} for row in responses([2] * 20)]
    shown = invoke("forecast", str(written(tmp_path / "f.jsonl", rows)), *BOUNDS)
    assert shown.exit_code == 0 and "20 prompts, 2 responses to each" in shown.stdout


BAD_WEIGHTS = [[1.0, 5.0], [], None, math.nan, math.inf, "2", 0, -1.0, [0, 0], 10**400]


@pytest.mark.parametrize("weight", BAD_WEIGHTS)
def test_a_weight_is_one_positive_number(tmp_path, weight):
    rows = [row | {"w": 2.0} for row in table()]
    file = written(tmp_path / "f.jsonl", [*rows, {"prompt": "p", "reward": [0, 1], "w": weight}])
    shown = invoke("forecast", str(file), *BOUNDS, "--weight", "w")
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and f"--weight w: {file}, row 21 has " in said, shown.output
    assert "; give each prompt one positive number" in said


def test_a_weight_may_be_said_of_each_response(tmp_path):
    rows = [row | {"w": 1 + x % 2} for x, row in enumerate(table())]
    told = [
        invoke("forecast", str(written(tmp_path / name, found)), *BOUNDS, "--weight", "w").stdout
        for name, found in (("a", rows), ("b", [row | {"w": [row["w"]] * 2} for row in rows]))
    ]
    assert told[0] == told[1] and "weighted" in told[0]


@pytest.mark.parametrize("weight", [None, -1.0, math.nan])
def test_a_weight_beside_what_collect_wrote_is_one_positive_number(tmp_path, weight):
    file = tmp_path / "ref.parquet"
    CollectedSamples(changed(often=[1.0] * 7 + [weight] + [1.0] * 12), ORIGIN).write(file)
    shown = invoke("forecast", str(file), "--weight", "often")
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and f"--weight often: {file}, row 8 has {weight}; give" in said


def test_a_pipe_is_read_once(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, written(tmp_path / "samples.jsonl", table()).read_bytes())
    os.close(writing)
    try:
        shown = invoke("forecast", f"/dev/fd/{reading}", *BOUNDS, "--json")
    finally:
        os.close(reading)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["prompts"] == 20


def changed(**columns):
    """What collect wrote, with other columns; None takes one away."""
    whole = {"prompt": [f"p{x}" for x in range(20)], "reward": [[0.0, 1.0]] * 20}
    whole |= {"log_ref": [[-1.0, -1.0]] * 20} | columns
    return pyarrow.table({name: given for name, given in whole.items() if given is not None})


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (changed(reward=None), "no column 'reward'"),
        (changed()[:0], "no rows"),
        (changed(reward=[[0.0, 1.0]] * 19 + [[1.0]]), "the column 'reward' is not as lm.collect"),
        (changed(reward=[[0.0, math.nan]] * 20), "ref_rewards[0, 1]=nan"),
        (changed(expert_reward=[[1.0]] * 20), "a column 'expert_reward', but not both of"),
        (changed(expert_log_ref=[[-1.0]] * 20), "a column 'expert_log_ref', but not both of"),
    ],
)
def test_a_file_of_collect_that_was_changed(tmp_path, found, named):
    CollectedSamples(found, ORIGIN).write(tmp_path / "ref.parquet")
    for words, _ in commands(tmp_path, tmp_path / "ref.parquet"):
        shown = invoke(*words)
        assert shown.exit_code == 2 and f"ref.parquet: {named}" in shown.output, shown.output


def origin_with(**values):
    return json.dumps(json.loads(ORIGIN.to_json()) | values)


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        ("{", "not what lm.collect writes"),
        ('{"format": "nondecoupling samples 9"}', "not what lm.collect writes"),
        (origin_with(top_k=5), "differ in top_k); collect again"),
        (origin_with(reward_bounds=None), "ref.parquet: reward_bounds=None is not what"),
        (origin_with(reward_bounds=[1, 0]), "ref.parquet: reward_bounds=(1.0, 0.0): give"),
        (origin_with(reward_bounds=["a"]), "ref.parquet: reward_bounds=['a']: not a real"),
        (origin_with(rewards=5), "ref.parquet: rewards=5 is not what lm.collect writes"),
        (origin_with(model=["m"]), "ref.parquet: model=['m'] is not what lm.collect writes"),
        (origin_with(seed="0"), "ref.parquet: seed='0' is not what lm.collect writes"),
    ],
)
def test_a_file_of_another_version_of_collect(tmp_path, origin, named):
    found = changed().replace_schema_metadata({KEY: origin.encode()})
    parquet.write_table(found, tmp_path / "ref.parquet")
    for words, _ in commands(tmp_path, tmp_path / "ref.parquet"):
        shown = invoke(*words)
        assert shown.exit_code == 2 and named in shown.output, shown.output


def test_a_place_without_a_file(tmp_path):
    for words, _ in commands(tmp_path, tmp_path / "none.parquet"):
        shown = invoke(*words)
        assert shown.exit_code == 2 and "none.parquet: no such file" in shown.output
    for words, _ in commands(tmp_path, tmp_path):
        shown = invoke(*words, *BOUNDS)
        assert shown.exit_code == 2 and f"{tmp_path} is an empty folder" in shown.output


def test_what_the_content_says_counts_and_not_the_name(tmp_path):
    """A Parquet file by any name, and bounds that it says of itself."""
    CollectedSamples(changed(), ORIGIN).write(tmp_path / "ref")
    shown = invoke("forecast", str(tmp_path / "ref"), "--json")
    assert shown.exit_code == 0 and json.loads(shown.stdout)["reward_bounds"] == [0.0, 1.0]
