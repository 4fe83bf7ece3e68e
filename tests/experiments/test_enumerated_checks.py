"""The rows hold on arbitrary laws, and each kind of verdict can be reached."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from validate.configuration import EnumeratedConfiguration, configuration
from validate.enumerated import checks, plots
from validate.enumerated.checks import CHECKED, checks_of
from validate.enumerated.digest import digest
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.facts import REWARDS, embedded_task
from validate.enumerated.head_precision import about_precision
from validate.enumerated.inputs import inputs_of
from validate.enumerated.means import PromptMeans
from validate.enumerated.report import as_json
from validate.enumerated.story import moved, what_held
from validate.reports import strict_json

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from nondecoupling.lm.enumerated_law import CheckedPrecision

TASK = embedded_task(5)
MEAN = PromptMeans(TASK.log_d, TASK.reward, 0.2, 0.05)


def random_law(seed: int, spread: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=spread, size=TASK.reward.shape)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def near_data(share: float = 1e-4) -> np.ndarray:
    """The data law with a little of its mass moved to `other`."""
    law = np.exp(TASK.log_d) * (1 - share)
    law[:, -1] = share
    return np.log(law)


def episode(ref: np.ndarray, *rl: np.ndarray, after: tuple[np.ndarray, ...] = ()) -> Episode:
    return Episode(
        MEAN,
        [Checkpoint("sft", 1, ref)],
        [Checkpoint("rl", i + 1, p) for i, p in enumerate(rl)],
        [Checkpoint("sft-again", i + 1, p) for i, p in enumerate(after)],
    )


def typical() -> Episode:
    ref = near_data()
    tilt = MEAN.tilt(ref)
    mixed = np.logaddexp(tilt + math.log(0.95), ref + math.log(0.05))
    return episode(ref, mixed, after=(near_data(1e-3),))


@pytest.mark.parametrize("seed", range(20))
def test_no_law_violates_a_statement(seed):
    laws = [random_law(10 * seed + k, spread=0.5 + seed) for k in range(4)]
    rows = checks_of(MEAN, [episode(laws[0], *laws[1:3], after=(laws[3],))])
    assert [row for row in rows if row.status is Status.REFUTED] == []


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("beta", [0.02, 0.2, pytest.param(5.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("weight", [0.01, 1e4])
def test_rounding_refutes_nothing_at_the_edges(reward, beta, weight):
    """Policies next to the data, to ref and to the optimum, optima so sharp that a reward rounds to the best one."""
    task = embedded_task(5, reward)
    mean = PromptMeans(task.log_d, task.reward, beta, weight)
    ref = near_data(1e-6)
    tilt = mean.tilt(ref)
    nearly = bounds.gibbs_tilt(ref, task.reward, 1e8)
    joint = mean.joint_optimum(ref)
    path = [Checkpoint("rl", i, p) for i, p in enumerate((ref, nearly, tilt, joint), start=1)]
    after = [Checkpoint("sft-again", 1, near_data(1e-9)), Checkpoint("sft-again", 2, tilt)]
    for own in (mean, PromptMeans(ref, task.reward, beta, weight)):
        made = Episode(own, [Checkpoint("sft", 1, ref)], path, after)
        refuted = [row for row in checks_of(mean, [made]) if row.status is Status.REFUTED]
        assert refuted == []


def test_attained_bounds_hold_within_rounding():
    """With two reward levels S3's bounds are equalities, and the tilt lies on S5's frontier."""
    task = embedded_task(5, "right")
    mean, ref = PromptMeans(task.log_d, task.reward, 0.2, 0.05), near_data()
    made = Episode(mean, [Checkpoint("sft", 1, ref)], [Checkpoint("rl", 1, mean.tilt(ref))], [])
    rows = [row for row in checks_of(mean, [made]) if row.statement in ("S3", "S5")]
    close = [row for row in rows if abs(row.margin) <= row.tolerance]
    assert {row.statement for row in close} == {"S3", "S5"}
    assert {row.status for row in close} == {Status.HOLDS}
    assert not MEAN.two_levels(TASK.log_d) and mean.two_levels(task.log_d)


def test_every_statement_applies_to_a_typical_episode():
    rows = checks_of(MEAN, [typical()])
    applied = {row.statement for row in rows if row.status is not Status.OUT_OF_SCOPE}
    assert applied == set(CHECKED)
    assert {row.status for row in rows} <= {Status.HOLDS, Status.OUT_OF_SCOPE}


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("coupling_gap", "S2"),
        ("sft_loss_increase", "S1"),
        ("sft_loss_change", "S1"),
        ("log_partition", "F3"),
        ("regularized_reward_drop", "R1"),
        ("reward_drop", "R2"),
        ("cycle_loss", "R6"),
        ("joint_gap", "J2"),
        ("kl_divergence", "R8"),
        ("kl_divergence", "F2"),
        ("kl_divergence", "S6"),
    ],
)
def test_a_closed_form_wrong_by_a_millionth_is_a_violation(monkeypatch, name, statement):
    right = getattr(bounds, name)
    monkeypatch.setattr(bounds, name, lambda *laws: right(*laws) * (1 + 1e-6))
    rows = checks_of(MEAN, [typical()])
    assert statement in {row.statement for row in rows if row.status is Status.REFUTED}


@pytest.mark.parametrize(
    ("name", "statement", "factor"),
    [
        ("price_of_policy", "S5", 3.0),
        ("price_of_policy", "S7", 3.0),
        ("coupling_gap", "S2", 2.0),
        ("regularized_reward_drop", "R3", 1e3),
    ],
)
def test_an_inequality_can_be_violated(monkeypatch, name, statement, factor):
    right = getattr(bounds, name)
    monkeypatch.setattr(bounds, name, lambda *laws: right(*laws) * factor)
    rows = checks_of(MEAN, [typical()])
    broken = [row for row in rows if row.status is Status.REFUTED and row.relation == ">="]
    assert statement in {row.statement for row in broken}


def refuted_claims(mean: PromptMeans, made: Episode, statement: str) -> list[str]:
    rows = [row for row in checks_of(mean, [made]) if row.statement == statement]
    return [row.claim for row in rows if row.status is Status.REFUTED]


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
def test_each_bound_of_s3_can_be_violated(monkeypatch, side):
    right, factor = bounds.coupling_gap_bounds, (3.0, 1 / 3)[side]
    wrong = [lambda *laws: (right(*laws)[0] * factor, right(*laws)[1])]
    wrong += [lambda *laws: (right(*laws)[0], right(*laws)[1] * factor)]
    monkeypatch.setattr(bounds, "coupling_gap_bounds", wrong[side])
    words = ("DeltaL(tilt) >= lower", "upper bound >= DeltaL(tilt)")[side]
    assert any(words in claim for claim in refuted_claims(MEAN, typical(), "S3"))


def test_a_threshold_too_large_would_be_a_violation_of_s6(monkeypatch):
    """From a ref that avoids reward, RL lowers the SFT loss: no threshold may reach that far."""
    shy = episode(bounds.gibbs_tilt(near_data(), -TASK.reward, 0.1), random_law(2))
    assert refuted_claims(MEAN, shy, "S6") == []
    monkeypatch.setattr(PromptMeans, "radius", lambda mean, log_ref: math.inf)
    (claim,) = refuted_claims(MEAN, shy, "S6")
    assert "DeltaL(tilt) > 0" in claim


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
def test_each_bound_of_j3_can_be_violated(monkeypatch, side):
    """For small lambda both bounds are tight, on the saving and on the cost: two percent are noticed."""
    mean = PromptMeans(TASK.log_d, TASK.reward, 0.2, 1e-6)
    made = replace(typical(), mean=mean)
    assert refuted_claims(mean, made, "J3") == []
    right, factor = PromptMeans.joint_saving, (1.02, 0.98)[side]

    def wrong(mean: PromptMeans, log_ref: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = list(right(mean, log_ref))
        both[side] = both[side] * factor
        return both[0], both[1]

    monkeypatch.setattr(PromptMeans, "joint_saving", wrong)
    assert len(refuted_claims(mean, made, "J3")) == 2


def test_the_summary_counts_what_applied_by_what_it_says():
    run = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", random_law(2)))
    )
    applied = [row for row in run.rows if row.status is not Status.OUT_OF_SCOPE]
    opening = what_held(run)[0]
    numbers = [int(number) for number in re.findall(r"\d+", opening)]
    assert numbers[0] == numbers[1] == len(applied) and numbers[4] == len(run.rows) - len(applied)
    assert sum(numbers[5:]) == len(applied)


@pytest.mark.parametrize(
    ("change", "words"),
    [(0.2, "raised it"), (-0.2, "lowered it"), (-1e-17, "left it unchanged to three decimals")],
)
def test_no_change_has_no_direction(change, words):
    assert moved(change, "it") == words


def test_self_distilled_data_make_ref_the_data_law():
    """DeltaL is then a divergence, and the row of an approximate SFT optimum is gone: eps is exactly 0."""
    ref, p = near_data(), random_law(3)
    own = PromptMeans(ref, TASK.reward, 0.2, 0.05)
    rows = checks_of(MEAN, [replace(typical(), mean=own, rl=[Checkpoint("rl", 1, p)])])
    assert [row for row in rows if row.status is Status.REFUTED] == []
    (change,) = [r for r in rows if r.place == "rl 1" and r.claim.startswith("DeltaL(p) = KL")]
    assert change.lhs == pytest.approx(own.kl(ref, p))
    assert not any(row.claim.startswith("near SFT") for row in rows)


def test_a_policy_above_the_joint_frontier_would_be_a_violation(monkeypatch):
    monkeypatch.setattr(PromptMeans, "joint_optimum", lambda mean, ref: ref)
    rows = checks_of(MEAN, [typical()])
    assert any(row.statement == "J2" and row.status is Status.REFUTED for row in rows)


def test_an_inequality_within_its_tolerance_is_undecided():
    rows = checks_of(MEAN, [episode(near_data(), near_data())])
    open_rows = [row for row in rows if row.status is Status.UNDECIDED]
    assert any(row.claim.startswith("d := ref") and row.statement == "S5" for row in open_rows)


def test_far_from_sft_optimality_rows_name_the_missing_assumption():
    rows = checks_of(MEAN, [episode(random_law(1), random_law(2))])
    missing = [row.missing for row in rows if row.statement in ("S2", "S6") and row.missing]
    assert any("not near SFT optimality: eps = " in text for text in missing)
    assert any("too far from the data" in text for text in missing)


def test_near_optimal_is_said_only_below_the_limit():
    eps = MEAN.kl(TASK.log_d, near_data(0.02))
    assert eps > checks.NEAR_OPTIMAL
    rows = checks_of(MEAN, [episode(near_data(0.02), random_law(2))])
    near = [row for row in rows if row.claim.startswith("near SFT optimality")]
    assert [row.status for row in near] == [Status.OUT_OF_SCOPE]


def records(*laws_of_stages):
    base = {
        "stage": "base",
        "step": 0,
        "log_p": random_law(9).tolist(),
        "model": "made up",
        "layout": "made up",
    }
    lines = [{**base, "enumeration_difference": 0.0, "enumeration_tolerance": 1e-6}]
    for stage, *laws in laws_of_stages:
        for step, law in enumerate(laws, start=1):
            lines.append({"stage": stage, "step": step, "log_p": law.tolist()})
    return lines


def config_of(**asked) -> EnumeratedConfiguration:
    config = configuration({"prompts": 5, **asked})
    assert isinstance(config, EnumeratedConfiguration)
    return config


CONFIG = config_of(order="sft-rl")


def test_a_statement_that_never_applied_is_named():
    run = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", random_law(2)))
    )
    outside = MEAN.kl(random_law(2), near_data()) > MEAN.kl(MEAN.tilt(near_data()), near_data())
    assert outside
    assert run.never_applied == ["R3"]
    assert any("neither confirmed nor violated: R3" in line for line in what_held(run))


def test_each_order_has_its_episode_and_shared_stages_are_checked_once():
    laws = {
        "sft": near_data(),
        "rl": random_law(2),
        "sft-again": near_data(1e-3),
        "joint": random_law(4),
    }
    laws |= {"warm-up": near_data(0.1), "rl-first": random_law(5), "sft-after": near_data(2e-3)}
    run = digest(config_of(), inputs_of(config_of()).task, records(*laws.items()))
    assert [(e.ref.stage, e.rl[-1].stage, e.is_joint) for e in run.episodes] == [
        ("sft", "rl", False),
        ("sft", "joint", True),
        ("warm-up", "rl-first", False),
    ]
    places = [(row.statement, row.claim, row.place) for row in run.rows]
    assert len(places) == len(set(places))
    assert len(run.checkpoints) == 8
    assert any("lambda = 0.05" in line and "(J1)" in line for line in what_held(run))


SELF = config_of(data_law="self")
OF_SELF = {"sft": near_data(0.05), "rl": random_law(2), "joint": random_law(4)}
OF_SELF |= {"warm-up": near_data(0.2), "rl-first": random_law(5), "sft-after": near_data(2e-3)}


def test_checkpoints_are_measured_with_the_data_that_their_stage_was_trained_on():
    """With self-distilled data: the experts' up to ref, what is ref's law then."""
    run = digest(SELF, inputs_of(SELF).task, records(*OF_SELF.items()))
    data = dict.fromkeys(("base", "sft", "warm-up"), TASK.log_d)
    data |= dict.fromkeys(("rl", "joint"), OF_SELF["sft"])
    data |= dict.fromkeys(("rl-first", "sft-after"), OF_SELF["warm-up"])
    assert {line.stage for line in run.checkpoints} == data.keys()
    laws = {"base": random_law(9), **OF_SELF}
    for line in run.checkpoints:
        name = line.stage
        assert line.measures.sft_loss == pytest.approx(MEAN.ce(data[name], laws[name]), rel=1e-12)
        assert line.measures.eps == pytest.approx(MEAN.kl(data[name], laws[name]), abs=1e-12)
    base = run.checkpoints[0].measures
    assert base.kl_to_ref == pytest.approx(MEAN.kl(laws["base"], laws["sft"]))


def test_the_course_shows_each_stage_with_its_own_data(monkeypatch):
    run = digest(SELF, inputs_of(SELF).task, records(*OF_SELF.items()))
    monkeypatch.setattr(plots.plot, "svg", lambda figure: figure)
    loss, reward, _ = plots._course(run.experts, run.episodes[0]).axes
    sft, rl = OF_SELF["sft"], OF_SELF["rl"]

    def heights(axis, label):
        (line,) = (line for line in axis.lines if line.get_label() == label)
        return list(line.get_ydata())

    base = MEAN.ce(TASK.log_d, random_law(9))
    jump = [MEAN.ce(TASK.log_d, sft), MEAN.entropy(sft)]
    drawn = heights(loss, "SFT loss CE(d,p)")
    np.testing.assert_allclose(drawn, [base, *jump, MEAN.ce(sft, rl)])
    floors = heights(loss, "smallest possible, H(d)")
    np.testing.assert_allclose(floors, [MEAN.data_entropy] * 2 + [MEAN.entropy(sft)] * 2)
    of_data = heights(reward, "reward of the data, J(d): where SFT leads")
    np.testing.assert_allclose(of_data, [MEAN.data_reward] * 2 + [MEAN.j(sft)] * 2)


def test_the_outcome_is_the_worst_verdict(monkeypatch):
    held = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", random_law(2)))
    )
    assert held.outcome == "holds"
    still = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", near_data()))
    )
    assert still.outcome == "undecided"
    monkeypatch.setattr(bounds, "cycle_loss", lambda d, *rest: np.zeros(d.shape[:-1]))
    broken = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", near_data()))
    )
    assert broken.outcome == "violated"


def test_a_law_without_mass_one_fails_the_self_test():
    row = checks.mass_checks([Checkpoint("sft", 1, near_data() + 1e-10)])[0]
    assert row.status is Status.REFUTED


def in_float32(mass_error):
    """The records of a run with its head in float32 that was off by ``mass_error`` at every checkpoint."""
    lines = records(("sft", near_data()), ("rl", random_law(2)))
    checked = CheckedPrecision(difference=2e-7, tolerance=8e-4, mass_tolerance=6e-5)
    lines[0] |= about_precision(checked)
    return [{**line, "mass_error": mass_error} for line in lines]


def test_the_mass_of_a_head_in_float32_is_that_before_it_was_divided_out():
    """Recorded laws have mass one; what they were divided by is held against the tolerance of float32 sums."""
    config = config_of(order="sft-rl", precision="float32")
    for mass_error, outcome in ((5e-5, "holds"), (7e-5, "violated")):
        run = digest(config, inputs_of(config).task, in_float32(mass_error))
        assert run.outcome == outcome
        rows = [row for row in run.rows if row.statement == checks.SELF_TEST]
        assert {row.lhs for row in rows} == {mass_error}
        assert all(row.tolerance == pytest.approx(6e-5, rel=1e-6) for row in rows)
        assert {line.measures.mass_error for line in run.checkpoints} == {mass_error}
    report = as_json(run)
    assert report["precision_tolerance"] == 8e-4 and report["precision_mass_tolerance"] == 6e-5
    lines = records(("sft", near_data()), ("rl", random_law(2)))
    in_float64 = digest(CONFIG, inputs_of(CONFIG).task, [{**one, "mass_error": 1} for one in lines])
    assert in_float64.outcome == "holds" and "precision_tolerance" not in as_json(in_float64)


def test_the_mass_of_a_head_in_float64_is_held_to_its_own_tolerance():
    lines = records(("sft", near_data() + 1e-9), ("rl", random_law(2)))
    run = digest(CONFIG, inputs_of(CONFIG).task, lines)
    refuted = [row for row in run.rows if row.status is Status.REFUTED]
    assert [(row.statement, row.place) for row in refuted] == [(checks.SELF_TEST, "sft 1")]


def test_the_report_is_strict_json():
    run = digest(
        CONFIG, inputs_of(CONFIG).task, records(("sft", near_data()), ("rl", random_law(2)))
    )
    json.dumps(strict_json(as_json(run)), allow_nan=False)
