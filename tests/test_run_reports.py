"""Two runs side by side: what differs, what is refused, and the page."""

import json
from pathlib import Path

import pytest

from nondecoupling.run_reports import StageEnd, compare, html, read_report
from tests.command_line import invoke

RESULTS = Path(__file__).parents[1] / "experiments" / "results"


def report(outcome="holds", beta=0.2, status="HOLDS", reward=1.0, more=()):
    return {
        "outcome": outcome,
        "config": {"beta": beta, "seed": 0},
        "checkpoints": [
            {"stage": "base", "eps": 19.0, "reward": 0.1, "kl_to_ref": None},
            {"stage": "rl", "eps": 0.5, "reward": 0.2, "kl_to_ref": 0.1},
            {"stage": "rl", "eps": 1.5, "reward": reward, "kl_to_ref": 0.4},
        ],
        "rows": [
            {"statement": "S5", "claim": "price", "place": "rl 8", "status": status},
            {"statement": "S7", "claim": "floor", "place": "rl 8", "status": "HOLDS"},
            *more,
        ],
    }


@pytest.fixture
def runs(tmp_path):
    """Two run folders, the second with another beta, a violation, and a row of its own."""
    own = {"statement": "T2", "claim": "end", "place": "rl", "status": "HOLDS"}
    for name, values in (
        ("a", report()),
        ("b", report("violated", 0.4, "REFUTED", 1.25, more=[own])),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(values))
    return tmp_path / "a", tmp_path / "b"


def test_what_differs_and_nothing_else(runs):
    found = compare(*map(read_report, runs))
    assert found.settings == [("beta", 0.2, 0.4)]
    assert found.verdicts == [(("S5", "price", "rl 8"), "holds", "refuted")]
    assert found.stages[1] == ("rl", StageEnd(1.5, 1.0, 0.4), StageEnd(1.5, 1.25, 0.4))
    assert found.unshared == (0, 1)
    stages = found.tables()["stages"]
    assert ["SFT loss above H(d)", "rl", "1.5", "1.5", "+0"] in stages
    assert ["reward", "rl", "1", "1.25", "+0.25"] in stages
    before = next(row for row in stages if row[0] == "KL to ref")
    assert before[2:] == ["-", "-", ""]  # before RL there is no ref


def test_a_run_differs_from_itself_in_nothing(runs):
    found = compare(read_report(runs[0]), read_report(runs[0] / "report.json"))
    assert found.settings == found.verdicts == []
    assert (found.first.name, found.second.name) == ("a (first)", "a (second)")


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_committed_reports_are_read(name):
    run = read_report(RESULTS / name)
    values = json.loads((RESULTS / name / "report.json").read_text())
    assert len(run.verdicts) == len(values["rows"]) and len(run.landings) >= 7
    ended = {c["stage"]: c["reward"] for c in values.get("checkpoints", [])}
    ended |= {line["policy"]: line["reward"] for line in values.get("averages", [])}
    assert {stage: at.reward for stage, at in run.landings.items()} == ended


def test_all_committed_reports_are_read():
    folders = [path.parent for path in RESULTS.glob("*/report.json")]
    assert len(folders) >= 7
    for folder in folders:
        assert read_report(folder).outcome == "holds"


def test_runs_of_two_protocols_are_refused():
    both = (read_report(RESULTS / name) for name in ("tiny-qwen3", "tiny-qwen3-sampled"))
    with pytest.raises(ValueError, match="tiny-qwen3-sampled of the sampled one"):
        compare(*both)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file; give the folder of a run that is complete"),
        ("{", "is no JSON"),
        ("[]", "is not the report of a run"),
        ('{"outcome": "holds"}', "is not the report of a run .KeyError: 'rows'"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_report(tmp_path)


def written(folder, **changes):
    (folder / "report.json").write_text(json.dumps(report() | changes))
    return folder


def sampled(outcome, *rows):
    lines = [{"policy": "rl", "excess_loss": 2.0, "reward": 0.5, "kl_to_ref": 0.25}]
    rows = [
        {"statement": "S5", "claim": "price", "policy": name, "kind": kind, "outcome": said}
        for name, (kind, said) in zip("abc", rows, strict=False)
    ]
    given = {"protocol": "sampled", "outcome": outcome, "config": {}}
    return given | {"averages": lines, "rows": rows}


ROWS = report()["rows"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [ROWS[0] | {"status": "REFUTED"}]}, "outcome='holds', but .* 'violated'"),
        ({"rows": [*ROWS, ROWS[1] | {"claim": "c", "status": "UNDECIDED"}]}, "it is 'undecided'"),
        ({"outcome": "violated"}, "outcome='violated', but .* 'holds'"),
        ({"outcome": None}, "outcome=None, but"),
        ({"rows": [ROWS[0] | {"status": "REFUTED"}, *ROWS]}, "'price', 'rl 8'. is there more"),
        ({"rows": [ROWS[0] | {"status": "FINE"}]}, "KeyError: 'FINE'"),
        (
            {"checkpoints": [{"stage": "rl", "eps": "large", "reward": 1, "kl_to_ref": 0}]},
            "'large'",
        ),
        ({"checkpoints": [{"stage": "rl", "eps": None, "reward": 1, "kl_to_ref": 0}]}, "TypeError"),
        (sampled("holds", ("theorem", "violated")), "outcome='holds', but .* 'violated'"),
        (sampled("holds", ("self-test", "violated")), "but .* 'violated'"),
        (sampled("violated", ("finding", "violated")), "but .* 'holds'"),
        (sampled("holds", ("finding", "fine")), "'fine' is not"),
        (sampled("holds") | {"averages": 2 * sampled("holds")["averages"]}, "rl is there more"),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=f"report.json is not the report of a run .*{words}"):
        read_report(written(tmp_path, **changes))


def test_a_violated_finding_is_a_result(tmp_path):
    rows = ("finding", "violated"), ("theorem", "inconclusive"), ("self-test", "confirmed")
    run = read_report(written(tmp_path, **sampled("holds", *rows)))
    assert run.outcome == "holds"
    assert [*run.verdicts.values()] == ["violated", "inconclusive", "confirmed"]


def test_infinite_numbers_are_read_from_their_text(runs):
    """And the stage that has one is missing in the picture only."""
    ends = [{"stage": "rl", "eps": "inf", "reward": 0.75, "kl_to_ref": "inf"}]
    ends.append({"stage": "sft", "eps": 0.125, "reward": 0.5, "kl_to_ref": 0.0})
    again = read_report(written(runs[1], checkpoints=ends))
    assert again.landings["rl"] == StageEnd(float("inf"), 0.75, float("inf"))
    found = compare(read_report(runs[0]), again)
    assert ["SFT loss above H(d)", "rl", "1.5", "inf", "+inf"] in found.tables()["stages"]
    twice = compare(again, again).tables()["stages"]
    assert ["KL to ref", "rl", "inf", "inf", ""] in twice
    page = html(found)
    assert "<svg" in page and "<td>+inf</td>" in page


@pytest.mark.parametrize("stage", [None, "base", "rl"])
def test_without_a_place_there_is_no_picture(runs, stage):
    ends = [] if stage is None else [{"stage": stage, "eps": 1, "reward": 0.5, "kl_to_ref": None}]
    if stage == "rl":
        ends[0]["eps"] = "inf"
    folders = [written(folder, checkpoints=ends) for folder in runs]
    page = html(compare(*map(read_report, folders)))
    assert "<svg" not in page and "there is no picture" in page and "Settings that differ" in page
    one = html(compare(read_report(runs[0]), read_report(written(runs[1]))))
    assert "<svg" in one  # of the other run


def test_the_page_has_a_picture_and_escapes_what_it_is_given(runs):
    text = json.loads((runs[1] / "report.json").read_text())
    text["rows"][0]["claim"] = "<script>alert(1)</script>"
    (runs[1] / "report.json").write_text(json.dumps(text))
    other = json.loads((runs[0] / "report.json").read_text())
    other["rows"][0]["claim"] = "<script>alert(1)</script>"
    (runs[0] / "report.json").write_text(json.dumps(other))
    page = html(compare(*map(read_report, runs)))
    assert page.index("<svg") < page.index("Settings that differ") < page.index("Verdicts that")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "1 in the second only" in page


def test_names_are_shown_as_they_are(runs):
    for place, name in zip(runs, ("a$x_$", "_b"), strict=True):
        place.rename(place.parent / name)
    both = [read_report(runs[0].parent / name) for name in ("a$x_$", "_b")]
    page = html(compare(*both))
    assert "a$x_$ and _b" in page and "<svg" in page


def test_the_command(runs, tmp_path):
    page = tmp_path / "page.html"
    told = invoke("compare", *map(str, runs), "--html", str(page))
    assert told.exit_code == 0 and "refuted" in told.output and "+0.25" in told.output
    assert page.read_text().startswith("<!doctype html>")
    as_json = invoke("compare", *map(str, runs), "--json")
    assert json.loads(as_json.output)["unshared_rows"] == [0, 1]
    gone = invoke("compare", str(runs[0]), str(tmp_path / "gone"))
    assert gone.exit_code == 2 and "there is no such file" in gone.output
