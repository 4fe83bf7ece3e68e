"""What a sweep refuses before it starts: damaged files, and options that are its own."""

import json
import sys

import pytest
import sweep
from sweeps.grid import trials
from sweeps.running import last_attempts, report_of
from validate.errors import RunFolderError

GOOD = {"axes": {"seed": [0, 1], "beta": [0.1], "order": ["sft-rl"]}, "shared": ["--rl-steps", "5"]}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr(sweep, "_run", lambda *arguments: 0)


def refusal(capsys, *given):
    assert sweep.main(list(given)) == sweep.EXIT_USAGE
    return " ".join(capsys.readouterr().err.split())


def test_what_is_damaged_below_is_otherwise_accepted(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(GOOD))
    assert sweep.main(["--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"axes": ', "Expecting value"),
        ("", "Expecting value"),
        ("[]", "it holds a list instead of an object"),
        ("{}", "it holds no axes and shared options"),
        ({**GOOD, "axes": []}, "it holds no axes and shared options"),
        ({**GOOD, "axes": {}}, "it holds no axes and shared options"),
        ({**GOOD, "more": 1}, "it holds no axes and shared options"),
        ({**GOOD, "shared": "--rl-steps 5"}, "shared is '--rl-steps 5', no list of words"),
        ({**GOOD, "shared": ["--rl-steps", 5]}, "no list of words"),
        ({**GOOD, "axes": {"colour": ["red"]}}, "'colour' is no axis: model, order"),
        ({**GOOD, "axes": {"seed": 0}}, "the values of seed are 0"),
        ({**GOOD, "axes": {"seed": []}}, "the values of seed are []"),
        ({**GOOD, "axes": {"seed": ["0"]}}, "the values of seed are ['0']"),
        ({**GOOD, "axes": {"seed": [True]}}, "the values of seed are [True]"),
        ({**GOOD, "axes": {"beta": ["much"]}}, "the values of beta are ['much']"),
        ({**GOOD, "axes": {"order": [1]}}, "the values of order are [1]"),
    ],
)
def test_a_damaged_sweep_is_named(tmp_path, capsys, content, words):
    place = tmp_path / "sweep.json"
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    before = place.read_bytes()
    message = refusal(capsys, "--out", str(tmp_path))
    assert "sweep.json is damaged" in message and words in message and "another --out" in message
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    "shared", [["--resume"], ["--out", "x"], ["--resume", "--restart-from", "rl"]]
)
def test_options_of_the_sweep_are_refused_behind_the_dashes(tmp_path, capsys, shared):
    folder = tmp_path / "sweep"
    message = refusal(capsys, "--seed", "0", "--out", str(folder), "--", *shared)
    assert "--out and --resume behind the -- belong to the sweep" in message
    assert not folder.exists()


def test_a_damaged_line_of_results_is_named(tmp_path, capsys):
    (tmp_path / "results.jsonl").write_text('{"trial": "seed=0"}\n{"trial": \n')
    with pytest.raises(
        RunFolderError, match=r"results\.jsonl, line 2 is damaged .*remove the line"
    ):
        last_attempts(tmp_path)
    assert "results.jsonl, line 2" in refusal(capsys, "--seed", "0", "1", "--out", str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_damaged_report_of_a_trial_counts_as_none(tmp_path, content):
    (trial,) = trials({"seed": [0]}, [], {})
    place = tmp_path / "trials" / trial.name / "report.json"
    place.parent.mkdir(parents=True)
    place.write_text(content)
    assert report_of(tmp_path, trial) is None


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    given = ["--seed", "0", "--out", str(tmp_path / "sweep")]
    assert "pip install 'nondecoupling[sweeps]'" in refusal(capsys, *given)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "this needs matplotlib, which is not installed" in refusal(capsys, *given)
