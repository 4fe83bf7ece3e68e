"""What a report shows before anything else, its foot, and what the model wrote."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import qwen_validate
from validate.configuration import command, configuration, of_order, option
from validate.enumerated.first_screen import first_screen
from validate.enumerated.report import write_report
from validate.options import parse_arguments
from validate.run_folder import RunFolder
from validate.sampled import report as sampled_report
from validate.sampled.examples import examples

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from nondecoupling.estimate import Outcome


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"protocol": "sampled", "data": "a file of mine.tsv", "rl": "grpo", "delta": 0.1},
        {"order": "alternate", "cycles": 25, "weight": 0.3, "seed": 4},
        {"order": "weighted-sft"},
        {"protocol": "sampled", "order": "best-of-n", "rl_steps": 7},
        {"model": "smollm2-135m", "recipe": "k3-in-loss", "beta": 0.7},
        {"protocol": "sampled", "model": "/some where/model", "reward": "mine:shortness"},
        {"precision": "bfloat16", "order": "joint"},
    ],
    ids=str,
)
def test_the_command_at_the_foot_starts_the_same_run(asked):
    config = configuration(asked)
    python, script, *options = shlex.split(command(config))
    assert (python, script) == ("python", "experiments/qwen_validate.py")
    assert configuration(parse_arguments(options, "").asked) == config


def test_it_names_what_is_not_the_default_and_nothing_else():
    assert command(configuration({})) == "python experiments/qwen_validate.py"
    assert command(configuration({"weight": 0.3})).endswith(".py --lambda 0.3")


def test_it_leaves_away_what_the_order_does_not_use():
    old = replace(configuration({}), order="joint", recipe="k3-in-loss")
    assert command(old).endswith(".py --order joint")
    older = replace(configuration({}), order="best-of-n", warmup_steps=7, rl_steps=7)
    assert command(older).endswith(".py --order best-of-n")


def test_a_task_file_brings_its_rewards(tmp_path):
    config = configuration({"task": str(tmp_path / "task.jsonl")})
    assert command(config).split()[2:] == ["--task", str(tmp_path / "task.jsonl")]


def test_origins_are_named_once_while_they_stay_the_same(tmp_path):
    def session(commit):
        versions = {"torch": "2.13.0", "gguf": None}
        return {
            "commit": commit,
            "versions": versions,
            "python": "3.11",
            "system": "Linux",
            "device": "cpu",
        }

    folder = RunFolder(tmp_path)
    sessions = [session("abc"), session("abc"), session(None)]
    folder.write_json("environment.json", {"sessions": sessions})
    assert folder.origins() == [
        "commit abc; torch 2.13.0; Python 3.11, Linux, cpu",
        "commit unknown; torch 2.13.0; Python 3.11, Linux, cpu",
    ]


@pytest.fixture(scope="module")
def enumerated(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("enumerated") / "run"
    assert qwen_validate.main([*small, "--order", "cycle", "--out", str(folder)]) == 0
    run = RunFolder(folder)
    return folder, write_report(run.configuration({}), run).result


@pytest.mark.slow  # a whole run
def test_five_figures_of_the_enumerated_report(enumerated):
    """Against sums over the laws in metrics.jsonl."""
    folder, result = enumerated
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    laws = {line["stage"]: np.array(line["log_p"]) for line in lines}
    d, r, beta = np.exp(result.experts.log_d), result.experts.reward, result.config.beta
    ref, p = np.exp(laws["sft"]), np.exp(laws["rl"])
    tilt = ref * np.exp(r / beta)
    tilt /= tilt.sum(axis=1, keepdims=True)

    def above(law):
        # The experts give "other" no mass.
        return np.sum(d * np.log(np.where(d > 0, d, 1.0) / law), axis=1).mean()

    reached = (p * r).sum(axis=1).mean()
    least = float(bounds.price_of_average_reward(np.log(d + 1e-300), r, reached))
    screen = first_screen(result)
    expected = [above(ref), above(p), above(tilt), least, reached]
    assert [figure.value for figure in screen.figures] == [f"{x:.3f}" for x in expected]
    assert screen.title == "RL after SFT"
    assert screen.picture == "plane-sft.svg"


@pytest.mark.slow  # a whole run
def test_the_first_screen_of_the_page(enumerated):
    folder, result = enumerated
    html = (folder / "report.html").read_text()
    first = html[html.index("<header>") : html.index("</header>")]
    assert first.index("Every applicable statement holds") < first.index("<img")
    assert first.count("<b>") == 7  # five figures, and what was confirmed and what not
    assert "inequalities about what training produced" in first
    assert "one model, one seed, one beta" in first
    assert command(result.config) in html[html.index("<footer") :]


@pytest.mark.slow  # a whole run
@pytest.mark.parametrize("order", ["replay", "joint", "alternate", "weighted-sft", "rl-sft"])
def test_the_figures_of_every_order(tmp_path, small, order):
    """Before is what the stage started from, which for replay is the result of RL."""
    asked = {**parse_arguments(small, "").asked, "warmup_steps": 8, "cycles": 10}
    own = {"order": order, **of_order(asked, order)}
    given = [word for name, value in own.items() for word in (option(name), str(value))]
    assert qwen_validate.main([*given, "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    start, stage = {
        "replay": ("rl", "replay"),
        "joint": ("sft", "joint"),
        "alternate": ("sft", "alternate"),
        "weighted-sft": ("sft", "weighted-sft"),
        "rl-sft": ("warm-up", "rl-first"),
    }[order]
    last = {line["stage"]: line for line in report["checkpoints"]}
    change = next(one for one in report["changes"] if one["stage"] == stage)
    ref = "warm-up" if order == "rl-sft" else "sft"
    html = (tmp_path / "run" / "report.html").read_text()
    shown = re.findall(r"<b>([^<]+)</b><span", html[: html.index("</header>")])
    assert shown[:3] == [
        f"{last[start]['eps']:.3f}",
        f"{last[stage]['eps']:.3f}",
        f"{last[ref]['eps'] + change['predicted_loss_change']:.3f}",
    ]
    assert shown[4] == f"{last[stage]['reward']:.3f}"
    assert f"{last[start]['reward']:.3f} before" in html


@pytest.mark.slow  # a whole run
def test_violations_and_undecided_statements_are_named_first(enumerated):
    result = enumerated[1]
    other = {"S5": Status.REFUTED, "S7": Status.UNDECIDED, "R6": Status.OUT_OF_SCOPE}
    changed = [replace(s, status=other.get(s.statement, s.status)) for s in result.statements]
    screen = first_screen(replace(result, statements=changed))
    assert screen.not_confirmed.startswith("violated: S5; undecided: S7; never applied: R6; ")
    applied = sum(s.status is not Status.OUT_OF_SCOPE for s in changed)
    assert screen.confirmed.startswith(f"{applied - 2} of the {applied} statements")


@pytest.mark.slow  # a whole run
def test_tables_link_to_statements_that_the_report_brings_along(enumerated):
    html = (enumerated[0] / "report.html").read_text()
    assert '<a href="#S5">S5</a>' in html
    assert '<h3 id="S5">S5: Price of reward' in html
    for name in {line.split('"')[0] for line in html.split('href="#')[1:]}:
        assert f'id="{name}"' in html


SAMPLED = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 30, "responses": 4}
SAMPLED |= {"sft-steps": 20, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled") / "run"
    words = [word for name, value in SAMPLED.items() for word in (f"--{name}", str(value))]
    given = ["--protocol", "sampled", "--order", "sft-rl", *words, "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    run = RunFolder(folder)
    return run, sampled_report.write_report(run.configuration({}), run).result


@pytest.mark.slow  # trains every stage
def test_responses_before_and_after_rl_with_their_rewards(sampled):
    run, result = sampled
    shown = examples(result)
    assert (shown.ref, shown.title) == ("SFT", "RL after SFT")
    before, after = (result.measurements[name] for name in ("sft", "rl"))
    questions = [q.text for q in result.task.evaluation]
    gains = {}
    for i in range(20, 50):
        gains[questions[i]] = after.rewards[i].mean() - before.rewards[i].mean()
    ranked = sorted(gains.values())
    assert [gains[c.prompt] for c in shown.least_gained] == ranked[:5]
    assert [gains[c.prompt] for c in shown.most_gained] == ranked[:-6:-1]
    for c in (*shown.least_gained, *shown.most_gained):
        assert c.reward_after - c.reward_before == gains[c.prompt]
        at = 20 + questions[20:].index(c.prompt)
        assert c.after == list(zip(after.texts[at][:2], after.rewards[at][:2], strict=True))
    html = (run.path / "report.html").read_text()
    assert all(c.prompt in html for c in shown.most_gained)


@pytest.mark.slow  # trains every stage
def test_what_the_model_wrote_is_text_and_no_markup(sampled):
    run, result = sampled
    texts = [["<script>alert(1)</script>"] * 4 for _ in result.measurements["rl"].texts]
    hostile = replace(result.measurements["rl"], texts=texts)
    changed = replace(result, measurements={**result.measurements, "rl": hostile})
    pictures = {path.name: "<svg/>" for path in Path(run.path).glob("*.svg")}
    html = sampled_report._html(run, changed, pictures)
    assert "alert(1)</script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.slow  # trains every stage
def test_the_sampled_first_screen(sampled):
    run, result = sampled
    html = (run.path / "report.html").read_text()
    first = html[html.index("<header>") : html.index("</header>")]
    reward = result.measurements["rl"].rewards[20:].mean()
    assert f"<b>{reward:.3f}</b>" in first
    rows = [row for row in result.rows if row.outcome is Outcome.CONFIRMED]
    theorems = [row for row in rows if row.claim.kind == "theorem"]
    names = {row.claim.statement for row in theorems}
    assert f"{len(theorems)} rows about {len(names)} theorems and " in first
    assert "self-tests that found a difference: 0;" in first
    assert "too few prompts for an interval" in first
    assert "at the exact end of RL (S1, estimated: 4 responses of ref a prompt, " in first
    assert "<td>optimum of RL after SFT</td>" in html
