"""The ``nondecoupling`` command: what it prints, its exit status, and its errors."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nondecoupling import __version__, bounds, cli
from nondecoupling.cli.report import AS_THE_THEORY_SAYS, NO_COUNTEREXAMPLE
from nondecoupling.theory import catalog, ledger
from nondecoupling.theory.fields import Law, Same
from nondecoupling.theory.statement import tightened
from nondecoupling.theory.theorems.s3_two_sided_size import TwoSidedSize
from tests.command_line import invoke

S2_WORLD = ["--data", "1/4,3/4", "--reward", "0,1", "--beta", "1/2"]
SMALL_ATTACK = ["--restarts", "16", "--steps", "20"]


def words(line: str) -> list[str]:
    return line.split()


def run(*arguments: str):
    result = invoke(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answer(*arguments: str, status: int = 0):
    """The JSON that a command prints, which is all that it prints on standard output."""
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def claims(reply) -> dict[str, dict]:
    return {claim["claim"]: claim for claim in reply["claims"]}


@pytest.fixture
def false_statement(monkeypatch):
    """A catalogue whose S3 has its Hoeffding constant tightened by 1 %."""
    variant = tightened(TwoSidedSize, "Hoeffding upper bound", 1.01)
    monkeypatch.setattr(catalog, "statement", lambda _: variant)


def test_version():
    assert run("--version").stdout == f"nondecoupling {__version__}\n"


@pytest.mark.slow  # several processes
def test_shells_complete_commands_and_options():
    """As a shell asks: by a variable of the environment, in a process of its own."""
    code = "import sys; sys.argv = ['nondecoupling']; from nondecoupling import cli; cli.main()"
    for words_so_far, place, expected in (("fr", 1, "frontier"), ("frontier --pl", 2, "--plot")):
        asked = {"COMP_WORDS": f"nondecoupling {words_so_far}", "COMP_CWORD": str(place)}
        environment = {**os.environ, **asked, "_NONDECOUPLING_COMPLETE": "complete_bash"}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert (found.stdout.split(), found.returncode) == ([expected], 0), found.stderr


def test_no_command_shows_help():
    assert "certify" in run().output


def test_list_names_every_statement():
    printed = run("list").stdout
    assert all(id_ in printed for id_ in catalog.statements())
    assert [row["id"] for row in answer("list")] == list(catalog.statements())


def test_show_prints_text_world_and_claims():
    printed = run("show", "s2").stdout
    assert "RL raises the SFT loss (>=)" in printed
    assert "the same as log_d" in printed
    reply = answer("show", "R5")
    assert set(reply["sections"]) == set(catalog.SECTIONS)
    assert [c["refuted_by_theory"] for c in reply["claims"]] == [True, True, False]
    assert reply["where"]["proof file"] == "proofs/test_r5_sft_can_raise_reward.py"
    assert "R5_reward_can_rise" in reply["rocq"]
    assert (
        "docs/theory/s2_coupling_at_sft_optimality.md" in printed and "S2_coupling_gap" in printed
    )


@pytest.mark.parametrize("id_", list(catalog.statements()))
def test_show_works_for_every_statement(id_):
    assert run("show", id_).exit_code == 0


@pytest.mark.parametrize("id_", list(catalog.statements()))
def test_check_holds_for_every_statement(id_):
    assert run("check", id_, "--worlds", "300").exit_code == 0


def test_check_reports_worlds_and_margin():
    reply = answer("check", "S2", "--worlds", "45000", "--responses", "3", "--seed", "7")
    claim = claims(reply)["RL raises the SFT loss"]
    assert claim["status"] == "holds"
    assert claim["worlds"] == 45000
    assert claim["margin"] >= -claim["tolerance"]
    assert reply == answer("check", "S2", "--worlds", "45000", "--responses", "3", "--seed", "7")


def test_check_narrowed_to_a_claim():
    reply = answer("check", "S2", "--worlds", "10", "--claim", "KL form")
    assert list(claims(reply)) == ["KL form"]


def test_check_of_a_refuted_claim_does_not_fail():
    found = claims(answer("check", "R5", "--worlds", "1000"))
    rises = found["SFT never raises the raw reward"]
    assert rises["status"] == AS_THE_THEORY_SAYS
    assert sum(rises["world"]["p"]) == pytest.approx(1)
    # Equality violates this strict claim: where the reward is constant both sides are exactly zero.
    still = found["SFT moves the raw reward"]
    assert still["status"] == AS_THE_THEORY_SAYS and len(set(still["world"]["reward"])) == 1
    (few,) = claims(answer("check", "R5", "--worlds", "5", "--claim", still["claim"])).values()
    assert few["status"] == NO_COUNTEREXAMPLE


def test_check_of_a_false_statement_fails_with_a_world(monkeypatch):
    statement = catalog.statement("S2")
    free = type("Free", (statement,), {"world": {**statement.world, "log_ref": Law(True)}})
    assert isinstance(statement.world["log_ref"], Same)
    monkeypatch.setattr(catalog, "statement", lambda _: free)
    reply = answer("check", "S2", "--worlds", "200", status=1)
    refuted = claims(reply)["RL raises the SFT loss"]
    assert refuted["status"] == "refuted"
    assert set(refuted["world"]) == {"d", "ref", "reward", "beta"}
    assert run("check", "S2", "--worlds", "200").exit_code == 1


def test_attack_prints_the_smallest_witness_of_a_refuted_claim():
    claim = "SFT never raises the raw reward"
    result = run("attack", "R5", "--claim", claim, *SMALL_ATTACK)
    assert result.exit_code == 0
    assert AS_THE_THEORY_SAYS in result.stdout
    assert "p = (0, 1), ref = (1/2, 1/2), reward = (0, 1), beta = 1" in result.stdout


def test_attack_without_a_small_witness_shows_the_world_it_found(monkeypatch):
    monkeypatch.setattr("nondecoupling.deciding.attack.smallest_witness", lambda *_: None)
    found = claims(answer("attack", "R5", *SMALL_ATTACK, status=3))
    rises = found["SFT never raises the raw reward"]
    assert rises["status"] == AS_THE_THEORY_SAYS
    assert set(rises["world"]) == {"p", "ref", "reward", "beta"}
    # Equality violates this strict claim, which a search in floats cannot see.
    assert found["SFT moves the raw reward"]["status"] == "undecided"


def test_attack_says_how_tight_a_true_bound_is():
    reply = answer("attack", "S3", "--claim", "Hoeffding upper bound", *SMALL_ATTACK)
    claim = claims(reply)["Hoeffding upper bound"]
    assert claim["status"] == "holds"
    assert 0.9 < claim["tightness"] <= 1


@pytest.mark.usefixtures("false_statement")
def test_attack_refutes_a_false_statement():
    reply = answer("attack", "S3", status=1)
    assert claims(reply)["Hoeffding upper bound"]["status"] == "refuted"


def test_attack_without_inequalities_points_to_check():
    result = run("attack", "R2")
    assert result.exit_code == 2
    assert "nondecoupling check R2" in result.stderr


def test_certify_encloses_both_sides():
    claim = claims(answer("certify", "S2", *S2_WORLD))["RL raises the SFT loss"]
    exact = math.log(0.25 + 0.75 * math.e**2) - 1.5
    assert claim["status"] == "holds"
    assert claim["lhs"] == pytest.approx(exact, rel=1e-15)
    assert claim["radius"] < 1e-30


def test_certify_takes_decimals_and_other_fields():
    world = ["--data", "0.25,0.25,0.5", "--policy", "1/2,1/4,1/4", "--reward", "-1,1e-1,2"]
    fields = ["slack=1/3", "rate=1", "offset=0.5"]
    others = [word for field in fields for word in ("--set", field)]
    assert run("certify", "S5", *world, *others).exit_code == 0


@pytest.mark.usefixtures("false_statement")
def test_certify_refutes_a_false_statement():
    world = ["--data", "1/2,1/2", "--reward", "0,1", "--beta", "10"]
    reply = answer("certify", "S3", *world, status=1)
    assert claims(reply)["Hoeffding upper bound"]["status"] == "refuted"


def test_certify_of_a_refuted_claim_does_not_fail():
    world = ["--policy", "0,1", "--ref", "1/2,1/2", "--reward", "0,1", "--beta", "1"]
    found = claims(answer("certify", "R5", *world))
    assert found["SFT never raises the raw reward"]["status"] == AS_THE_THEORY_SAYS


def test_certify_at_equality_is_undecided():
    world = ["--data", "1/4,3/4", "--reward", "1,1", "--beta", "1/2"]
    claim = claims(answer("certify", "S2", *world, status=3))["RL raises the SFT loss"]
    assert claim["status"] == "undecided"
    assert "25 digits" in claim["reason"]


def test_certify_outside_the_conditions_decides_nothing():
    world = ["--policy", "99/100,1/100", "--ref", "1/2,1/2", "--reward", "0,1", "--beta", "1"]
    (claim,) = answer("certify", "R3", *world, status=3)["claims"]
    assert claim["status"] == "out of scope"
    assert "KL ball" in claim["reason"]


def test_frontier_lies_under_what_rl_pays():
    world = ["--data", "1/2,3/10,1/5", "--reward", "0,1,2"]
    reply = answer("frontier", *world, "--beta", "1", "--points", "8")
    points = reply["points"]
    assert len(points) == 8
    assert points[0]["price"] == 0
    assert points[0]["reward"] == pytest.approx(0.7)
    prices = [p["price"] for p in points]
    assert prices == sorted(prices)
    assert all(p["price"] < p["tilt_price"] for p in points[1:])
    assert reply["tilt"]["price"] < reply["tilt"]["tilt_price"]


def test_frontier_finds_the_beta_of_each_reward():
    point = answer("frontier", "--data", "1/2,1/2", "--reward", "0,1")["points"][5]
    law, reward = [math.log(0.5)] * 2, [0.0, 1.0]
    tilt = bounds.gibbs_tilt(law, reward, point["beta"])
    assert float(bounds.expected_reward(tilt, reward)) == pytest.approx(point["reward"], abs=1e-12)
    # Two reward levels: the tilt lies on the frontier.
    assert point["tilt_price"] == pytest.approx(point["price"], rel=1e-9)


def test_frontier_beyond_what_rl_reaches():
    points = answer("frontier", "--data", "1/2,1/2,0", "--reward", "0,1,2")["points"]
    assert points[-1]["tilt_price"] == "inf"
    assert isinstance(points[-1]["price"], float)


def test_frontier_where_the_reward_of_rl_rounds_to_the_highest():
    reply = answer("frontier", "--data", "1/2,1/2", "--reward", "0,1", "--beta", "1/1000")
    assert reply["tilt"]["price"] < reply["tilt"]["tilt_price"]


def test_frontier_plot(tmp_path):
    arguments = ["--data", "1/2,1/2", "--reward", "0,1", "--beta", "1", "--plot"]
    starts = {"out.png": b"\x89PNG", "out.svg": b"<?xml"}
    for name, start in starts.items():
        assert run("frontier", *arguments, str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(start)


GRPO = words("recipe --advantage group-normalised --group-size 8 --sd sample --eps 1e-4")


def test_recipe_says_where_a_trainer_ends_and_what_it_costs():
    reply = answer(*GRPO, "--leash", "k3-with-ratio", "--beta", "1", "--success", "0.2")
    end = bounds.group_normalized_success(0.2, 8, 1.0, "reverse", "sample", 1e-4).success
    assert reply["stationary"] and reply["why"] == ""
    assert reply["reward"] == pytest.approx(end, rel=1e-12)
    assert reply["sft_loss_increase"] == pytest.approx(bounds.verifiable_cost(0.2, end), rel=1e-10)
    assert reply["least_sft_loss_increase"] == reply["sft_loss_increase"]
    assert reply["critical_beta"] == pytest.approx(bounds.critical_beta(0.2))


def test_recipe_with_three_levels_pays_more_than_the_price_unless_the_leash_is_forward():
    world = words("--ref 1/2,3/10,1/5 --reward 0,1,3")
    costs = {}
    for leash in ("k1-in-reward", "k3-in-loss"):
        reply = answer(
            "recipe", "--advantage", "leave-one-out", "--leash", leash, "--beta", "1", *world
        )
        costs[leash] = reply["sft_loss_increase"], reply["least_sft_loss_increase"]
    paid, least = costs["k1-in-reward"]
    assert paid > 1.01 * least
    assert costs["k3-in-loss"][0] == pytest.approx(costs["k3-in-loss"][1], rel=1e-9)


def test_recipe_of_trl_options(tmp_path):
    written = {"beta": 0.04, "learning_rate": 1e-6, "num_iterations": 2}
    for path, text in (
        (tmp_path / "grpo_config.yaml", "beta: 4e-2\nlearning_rate: 1e-6\nnum_iterations: 2\n"),
        (tmp_path / "grpo_config.json", json.dumps(written)),
    ):
        path.write_text(text)
        reply = answer("recipe", "--trl", str(path), "--success", "0.2")
        assert reply["recipe"]["leash"] == "k3-with-ratio" and reply["recipe"]["group_size"] == 8
        assert {"num_iterations", "loss_type"} <= {entry["option"] for entry in reply["outside"]}
        assert 0 < reply["short_of_the_best"] < 1e-20 and reply["reward"] == 1
        text = run("recipe", "--trl", str(path), "--success", "0.2").stdout
        assert "the recipe: group-normalised advantages, leash k3-with-ratio" in text
        assert "outside the theory: num_iterations: " in text
    reply = answer("recipe", "--trl", str(path), "--trainer", "rloo", "--success", "0.2")
    assert reply["recipe"]["leash"] == "k1-in-reward"


def test_recipe_with_a_noisy_verifier():
    given = words("recipe --advantage leave-one-out --leash k1-in-reward --beta 0.5 --success 0.2")
    reply = answer(*given, "--false-positives", "0.1", "--false-negatives", "0.1")
    tilt = bounds.gibbs_tilt([math.log(0.8), math.log(0.2)], [0.0, 1.0], 0.5 / 0.8)
    assert reply["reward"] == pytest.approx(math.exp(tilt[1]))


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("--advantage group-normalised --leash k2-in-loss --beta 0.5", 0, "critical"),
        ("--advantage leave-one-out --leash k3-in-reward --beta 0.5", 0, "no upper bound"),
        ("--advantage leave-one-out --leash none", 0, "nothing holds the policy"),
        ("--advantage leave-one-out --leash k2-in-reward --beta 0.5", 3, "not known"),
    ],
)
def test_recipe_without_an_end_says_why(line, status, why):
    reply = answer("recipe", *words(line), "--success", "0.2", status=status)
    assert not reply["stationary"] and why in reply["why"] and "policy" not in reply
    assert why in run("recipe", *words(line), "--success", "0.2").stdout.replace("\n", " ")


LEDGER = {
    "S2": ledger.Entry("S2", "Coupling", (), established=True, rungs={"sampled": ["1000 worlds"]}),
    "S3": ledger.Entry("S3", "Size", ("S2",), established=False, why_not="failed: a test"),
}


def test_ledger_of_a_sound_release(monkeypatch):
    monkeypatch.setattr(ledger, "load", lambda: {"S2": LEDGER["S2"]})
    assert "Coupling" in run("ledger").stdout
    (row,) = answer("ledger")
    assert row["rungs"] == {"sampled": ["1000 worlds"]}


def test_ledger_with_a_failure_does_not_pass(monkeypatch):
    monkeypatch.setattr(ledger, "load", lambda: LEDGER)
    result = run("ledger")
    assert result.exit_code == 1
    assert "failed: a test" in result.stdout


def test_ledger_missing(monkeypatch):
    def missing():
        raise FileNotFoundError

    monkeypatch.setattr(ledger, "load", missing)
    result = run("ledger")
    assert result.exit_code == 2
    assert "--update-ledger" in result.stderr
    assert run("show", "S2").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "S99"], ["'S99'", "S2"]),
        (["check", "S2", "--worlds", "0"], ["--worlds 0", "at least 1"]),
        (["check", "S2", "--responses", "1"], ["--responses 1", "at least 2"]),
        (["check", "S2", "--claim", "nonsense"], ["'nonsense'", "'closed form'"]),
        (["attack", "S2", "--claim", "KL form"], ["'KL form'", "identity", "check S2"]),
        (["certify", "S2", *S2_WORLD[:4]], ["--beta is missing", "--data, --reward, --beta"]),
        (["certify", "S2", *S2_WORLD, "--ref", "1/2,1/2"], ["--ref", "log_ref = log_d", "--data"]),
        (["certify", "S2", *S2_WORLD, "--set", "slack=1/2"], ["slack", "no such field"]),
        (["certify", "S2", *S2_WORLD, "--set", "slack"], ["'slack'", "FIELD=VALUES"]),
        (["certify", "S2", *S2_WORLD, "--set", "beta=1"], ["beta=1", "--beta"]),
        (["certify", "S2", *S2_WORLD[:5], "0"], ["--beta 0", "positive"]),
        (["certify", "S2", *S2_WORLD[:5], "1,2"], ["--beta 1,2", "one number, not 2"]),
        (["certify", "S2", "--data", "1/4,1/4", *S2_WORLD[2:]], ["--data", "1/2", "fractions"]),
        (
            ["certify", "S2", "--data", "-1,2", *S2_WORLD[2:]],
            ["--data -1,2", "-1 is negative", "at least 0"],
        ),
        (["certify", "S2", "--data", "1/4,x", *S2_WORLD[2:]], ["--data", "'x'", "fractions"]),
        (["certify", "S2", "--data", "1/0,1", *S2_WORLD[2:]], ["--data", "'1/0'"]),
        (["certify", "S2", "--data", "1", *S2_WORLD[2:]], ["--data has 1", "--reward has 2"]),
        (["certify", "S2", "--data", "nan,1", *S2_WORLD[2:]], ["--data", "'nan'"]),
        (
            ["certify", "R3", "--policy", "0,1", "--ref", "0,1", *S2_WORLD[2:]],
            ["--ref 0,1", "positive probability"],
        ),
        (
            words(
                "certify S5 --data 1/2,1/2 --policy 1/2,1/2 --reward 0,1 --set slack=1 --set rate=1 --set offset=1"
            ),
            ["slack", "between 0 and 1"],
        ),
        (["frontier", "--data", "1/2,1/2", "--reward", "1,1"], ["--reward", "no frontier"]),
        (["frontier", "--data", "1/2,1/2", "--reward", "1,2,3"], ["--data has 2", "has 3"]),
        (
            words("frontier --data 1/2,1/2 --reward 0,1 --plot /nowhere/out.png"),
            ["--plot", "/nowhere/out.png", "cannot be written"],
        ),
        (
            words("frontier --data 1/2,1/2 --reward 0,1 --plot out.nonsense"),
            ["--plot", "nonsense"],
        ),
        (["frontier", "--data", "1/2,1/2"], ["--reward"]),
        (
            [*GRPO, "--leash", "k3-in-loss", "--beta", "1"],
            ["--success is missing", "--ref and --reward"],
        ),
        (
            [*GRPO, "--leash", "k3-in-loss", "--success", "0.2"],
            ["--beta is missing", "--leash and, unless that is none, --beta"],
        ),
        ([*GRPO, "--beta", "1", "--success", "0.2"], ["--leash is missing", "--trl FILE"]),
        ([*GRPO, *words("--leash k9 --beta 1 --success 0.2")], ["--leash 'k9'", "'k3-with-ratio'"]),
        (
            [*GRPO, *words("--leash k3-in-loss --beta -1 --success 0.2")],
            ["--beta -1.0", "at least 0"],
        ),
        (
            [*GRPO, *words("--leash k3-in-loss --beta 1 --success 1")],
            ["--success 1", "between 0 and 1"],
        ),
        (
            [*GRPO, *words("--leash k3-in-loss --beta 1 --success 0.2 --ref 1/2,1/2")],
            ["--success", "--ref"],
        ),
        ([*GRPO, *words("--leash k3-in-loss --beta 1 --ref 1/2,1/2")], ["--reward is missing"]),
        (
            words("recipe --trl nowhere.yaml --success 0.2"),
            ["--trl nowhere.yaml", "cannot be read"],
        ),
        (words("recipe --trl nowhere.yaml --beta 1 --success 0.2"), ["--beta", "change the file"]),
        (words("recipe --trl nowhere.yaml --trainer ppo --success 0.2"), ["--trainer ppo", "rloo"]),
        (
            [*GRPO, *words("--leash k3-in-loss --beta 1 --success 0.2 --trainer rloo")],
            ["--trainer rloo: ", "give --trl FILE"],
        ),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_bad_input_names_the_argument_the_value_and_the_remedy(arguments, expected):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for text in expected:
        assert text in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beta: much", "beta='much': give a number"),
        ("beta: [", "cannot be parsed"),
        ("- beta", "holds no options"),
        ("loss_type: ppo", "loss_type='ppo': one of 'grpo'"),
    ],
)
def test_a_bad_file_of_options_is_refused(text, expected, tmp_path):
    path = tmp_path / "grpo.yaml"
    path.write_text(text)
    result = run("recipe", "--trl", str(path), "--success", "0.2")
    assert result.exit_code == 2 and result.stdout == ""
    assert f"--trl {path}" in result.stderr and expected in result.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "remedy"),
    [
        ("torch", ["attack", "S3"], "pip install 'nondecoupling[torch]'"),
        ("flint", ["certify", "S2", *S2_WORLD], "pip install 'nondecoupling[proofs]'"),
        (
            "yaml",
            ["recipe", "--trl", __file__, "--success", "0.2"],
            "pip install 'nondecoupling[lm]'",
        ),
        (
            "matplotlib",
            words("frontier --data 1/2,1/2 --reward 0,1 --plot out.png"),
            "pip install 'nondecoupling[plot]'",
        ),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, arguments, remedy):
    monkeypatch.setitem(sys.modules, module, None)
    result = run(*arguments)
    assert result.exit_code == 2
    assert remedy in result.stderr


def readme_commands() -> list[str]:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    return re.findall(r"^nondecoupling (.+)$", text, flags=re.MULTILINE)


def test_the_readme_has_commands():
    assert len(readme_commands()) > 3


@pytest.mark.parametrize("line", readme_commands())
def test_the_commands_of_the_readme_run(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*line.split()).exit_code == 0


@pytest.mark.slow  # a process
def test_console_script_as_installed():
    code = "import sys; from nondecoupling.cli import main; sys.argv[1:] = ['list']; main()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Coupling at SFT optimality" in found.stdout


def test_a_file_that_is_no_statement_yet_is_named(monkeypatch, capsys):
    def broken():
        raise ValueError("x1_new: id='X1': an id is one of the letters F, I, S")

    monkeypatch.setattr(cli.catalog, "statements", broken)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("Error: x1_new: id='X1'")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line as a shell runs it, with ``nondecoupling`` for the module."""
    line = command.replace("nondecoupling", f"{sys.executable} -m nondecoupling", 1)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("option", "text"),
    [("--beta", "1e1000000"), ("--reward", "1e1000000,0"), ("--beta", "1e-100000000")],
)
def test_numbers_with_millions_of_digits_are_refused_at_once(option, text):
    world = {"--data": "1/2,1/2", "--reward": "0,1", "--beta": "1", option: text}
    result = run("certify", "S2", *itertools.chain(*world.items()))
    assert result.exit_code == 2
    assert option in result.stderr and "1e300" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reward", "0,1e400", "--json"], "--reward 1e400"),
        (["--reward", "0,1e200"], "reward: its range 1e+200"),
        (["--reward", "0,1", "--beta", "1e-300"], "beta=1e-300"),
        (["--reward", "0,1", "--points", "1000000000"], "--points 1000000000: must be at most"),
    ],
)
def test_a_frontier_beyond_floats_is_refused(arguments, message):
    result = run("frontier", "--data", "1/2,1/2", *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr


def test_a_negative_probability_is_said_to_be_negative():
    result = run("certify", "S2", "--data=-1/4,5/4", "--reward", "0,1", "--beta", "1")
    assert result.exit_code == 2 and "-1/4 is negative" in result.stderr


@pytest.mark.slow  # several processes
def test_output_that_cannot_be_written_is_no_verdict():
    full = shell("nondecoupling list > /dev/full")
    assert full.returncode == 2 and "cannot be written" in full.stderr
    closed = shell("nondecoupling certify S2 --data 1/2,1/2 --reward 0,1 --beta 1 --json | true")
    assert closed.returncode in (0, 2) and "Traceback" not in closed.stderr


def test_a_crash_has_not_the_status_of_a_refutation(monkeypatch, capsys):
    def broken() -> dict[str, object]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys, "argv", ["nondecoupling", "ledger"])
    monkeypatch.setattr("nondecoupling.theory.ledger.load", broken)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 70 and "a bug" in capsys.readouterr().err


@pytest.mark.slow  # several processes
def test_misuse_from_a_shell():
    result = shell("nondecoupling nonsense")
    assert result.returncode == 2 and "nonsense" in result.stderr


def test_cite_says_what_the_citation_file_says():
    given = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text())
    printed = re.sub(r"[{}]", "", run("cite").stdout)
    paper = given["references"][0]
    people = " and ".join(person["family-names"] for person in paper["authors"])
    for expected in (
        given["title"], given["authors"][0]["name"], given["version"], given["license"],
        paper["title"], people, str(paper["year"]), paper["notes"].removeprefix("arXiv:"),
    ):  # fmt: skip
        assert expected in printed
    assert given["version"] == __version__


def test_a_forecast_that_was_asked_nothing_says_so(tmp_path):
    file = tmp_path / "ref.jsonl"
    rows = [{"prompt": f"p{k}", "reward": [0, k % 2, 1]} for k in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["forecast", str(file), "--reward-low", "0", "--reward-high", "1"]
    assert "nothing was asked: add --beta" in invoke(*words).output
    lost = invoke(*words, "--beta", "1", "--run", "0.5,0.1")
    assert lost.exit_code == 2 and "name it with --html" in lost.output
    wrong = invoke(*words, "--reward", "rewards")
    assert wrong.exit_code == 2 and "and no 'rewards'" in wrong.output
    options = tmp_path / "grpo.json"
    options.write_text(json.dumps({"beta": 1.0, "temperature": 0.7}))
    told = invoke(*words, "--beta", "1", "--recipe", str(options)).output
    assert "the recipe: " in told and "outside the theory: temperature" in told
