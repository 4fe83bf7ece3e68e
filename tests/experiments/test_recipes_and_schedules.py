"""RL by a recipe, alternation, replay, best of n and weighted SFT: what they train, where they end, what is refused.

The policies here are tabular, every response with a logit of its own: they must end where the theory says, which a
network does only nearly.
"""

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
import qwen_validate
import torch
from torch import nn
from validate.configuration import RECIPES, EnumeratedConfiguration, configuration, from_json
from validate.enumerated import means
from validate.enumerated.digest import _ending_predictions, _predictions
from validate.enumerated.ending_checks import ending_checks
from validate.enumerated.endings import Ending, ending_of, must_end, recipe_of
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.facts import embedded_task
from validate.enumerated.means import PromptMeans
from validate.enumerated.training import Goal, Trainer, goal_of
from validate.errors import InputError, RunFolderError
from validate.options import parse_arguments
from validate.orders import STAGES
from validate.run_folder import RunFolder

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from nondecoupling.lm.processes import Processes

PROCESSES = Processes()
THREE, TWO = embedded_task(2), embedded_task(2, "right")
LATER = [one.name for one in fields(EnumeratedConfiguration) if one.metadata.get("later")]
NORMALISED = {"advantage": "group-normalised", "group_size": 8, "beta": 0.8}
ENDS = [
    {"recipe": "k1-in-reward", "beta": 0.4},
    {"recipe": "k2-in-loss", "beta": 0.4},
    {"recipe": "k3-with-ratio", "beta": 0.4},
    {"recipe": "k3-in-loss", "beta": 0.4},
    {"entropy_bonus": 0.2, "beta": 0.4},
]
TWO_LEVELS = [
    {"recipe": "k3-with-ratio", **NORMALISED},
    {"recipe": "k2-in-loss", **NORMALISED},
    {"recipe": "k3-in-loss", **NORMALISED},
]


def near_data(task, share=1e-3):
    law = np.exp(task.log_d) * (1 - share)
    law[:, -1] = share
    return np.log(law)


def of(config, task):
    """What a stage from a ref near the data is given."""
    mean = PromptMeans(task.log_d, task.reward, config.beta, config.weight)
    ref = near_data(task)
    tilt = mean.tilt(ref)
    return mean, {"base": ref, "sft": ref, "rl": tilt}


def asked(**options):
    return configuration(options)


class Tabular(nn.Module):
    """A policy whose parameters are its logits."""

    def __init__(self, log_p):
        super().__init__()
        self.logits = nn.Parameter(torch.from_numpy(log_p.copy()))

    def forward(self):
        return self.logits.log_softmax(dim=-1)


def trained(stage, config, task, steps, rate, start=None):
    """The law of a tabular policy at the end of a stage."""
    mean, laws = of(config, task)
    policy = Tabular(laws[stage.start] if start is None else start)
    trainer = Trainer(policy, PROCESSES, goal_of(stage, config, mean, laws), steps, rate)
    for _ in trainer.steps_left(steps):
        pass
    return policy().detach().numpy()


# --- configurations --------------------------------------------------------------------------------


def test_a_configuration_of_an_earlier_version_is_read_as_it_was():
    """What that version lacked has its default, and is not written."""
    now = configuration({})
    assert not set(LATER) & set(now.as_json())
    assert from_json(now.as_json()) == now


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "k3-in-loss"},
        {"order": "alternate", "cycles": 25},
        {"advantage": "group-normalised", "group_size": 4},
    ],
)
def test_what_is_not_the_default_is_written(options):
    config = configuration(options)
    assert options.items() <= config.as_json().items()
    assert from_json(json.loads(json.dumps(config.as_json()))) == config


def test_resuming_knows_the_defaults_that_are_not_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("config.json", configuration({}).as_json())
    assert folder.configuration({"recipe": "k1-in-reward"}) == configuration({})
    with pytest.raises(RunFolderError, match=r"--recipe is 'k3-in-loss', but .*k1-in"):
        folder.configuration({"recipe": "k3-in-loss"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "alternate", "cycles": 200}, "--cycles is 200, which leaves less than 3 of 300"),
        (
            {"order": "alternate", "cycles": 151, "finish": "rl"},
            "less than 2 of 300 .*--finish rl",
        ),
        ({"protocol": "sampled", "order": "replay"}, "no order of the sampled protocol"),
        (
            {"protocol": "sampled", "recipe": "k2-in-loss"},
            "--recipe is 'k2-in-loss', .* one of k1-in-reward, k3-in-loss, k3-with-ratio",
        ),
        (
            {"protocol": "sampled", "recipe": "k1-in-reward", "order": "alternate"},
            "--recipe is 'k1-in-reward', .* --order alternate trains none",
        ),
        (
            {"protocol": "sampled", "recipe": "k3-in-loss", "rl": "grpo"},
            "--recipe is 'k3-in-loss' and --rl 'grpo'",
        ),
        ({"group_size": 1}, "--group-size is 1; it must be at least 2"),
        ({"order": "sft-rl", "best_of": 7}, "--best-of is 7, .* SFT on best of n; --order sft-rl"),
        ({"best_of": 7}, "--best-of is 7, .* --order all trains none, .* --order best-of-n"),
        ({"order": "best-of-n", "weights": "exponential"}, "--weights is 'exponential'"),
        ({"order": "weighted-sft", "best_of": 7}, "--best-of is 7"),
        ({"protocol": "sampled", "weights": "frontier"}, "--weights is .* --order weighted-sft"),
        (
            {"protocol": "sampled", "order": "best-of-n", "weights": "frontier"},
            "--weights is 'frontier', which is about SFT on weighted responses",
        ),
        ({"protocol": "sampled", "order": "joint", "best_of": 2}, "--best-of is 2"),
        ({"order": "joint", "warmup_steps": 7}, "--warmup-steps is 7, .* --order rl-sft or all"),
        ({"protocol": "sampled", "order": "cycle", "warmup_steps": 7}, "--warmup-steps is 7"),
        ({"order": "best-of-n", "rl_steps": 7}, "--rl-steps is 7, which is about RL; --order best"),
        ({"order": "weighted-sft", "rl_rate": 0.5}, "--rl-rate is 0.5, which is about RL"),
        ({"group_size": 4}, "--group-size is 4, which --advantage leave-one-out has no use for"),
        ({"recipe": "k3-in-loss", "group_size": 4}, "choose --advantage group-normalised"),
        (
            {"order": "alternate", "cycles": 100, "sft_share": 0.5},
            "--sft-share is 0.5, 1.5 of the 3 .* RL needs at least 2 .*half-rl; .* 0.3333, 1 of them",
        ),
        ({"order": "alternate", "sft_share": 0.01}, "0.04 of the 4 steps .* nearest is 0.25, 1 of"),
        (
            {"order": "alternate", "sft_share": 0.9},
            "--finish half-rl; the nearest is 0.5, 2 of them",
        ),
        (
            {"order": "alternate", "sft_share": 0.9, "finish": "sft"},
            "at least 1 with --finish sft; the nearest is 0.75, 3 of them",
        ),
        ({"order": "alternate", "cycles": 20}, "--sft-share is 0.25, 3.75 of the 15 .* is 0.2667"),
        ({"order": "alternate", "cycles": 150, "finish": "rl"}, "is 0.25, 0.5 of the 2 .* is 0.5"),
        ({"order": "cycle", "cycles": 20}, "--cycles is 20, which is about alternation"),
        ({"order": "replay", "finish": "rl"}, "--finish is 'rl', .* --order alternate"),
        ({"order": "alternate", "replay_share": 0.3}, "--replay-share is 0.3"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        configuration(options)


def test_every_option_of_a_schedule_reaches_the_configuration():
    reached = set()
    for words in (
        "--recipe k3-in-loss --advantage group-normalised --group-size 4 --entropy-bonus 0.1",
        "--order alternate --cycles 10 --sft-share 0.5 --finish sft",
        "--order replay --replay-share 0.3 --precision float32",
        "--order best-of-n --best-of 7",
        "--order weighted-sft --weights exponential",
    ):
        given = parse_arguments(words.split(), "").asked
        config = configuration(given)
        assert all(getattr(config, name) != getattr(configuration({}), name) for name in given)
        reached |= set(given)
    assert reached - {"order"} == set(LATER)


@pytest.mark.parametrize(
    ("options", "cycle", "steps"),
    [
        ({"cycles": 75}, (3, 1), 301),
        ({"cycles": 75, "finish": "sft"}, (3, 1), 300),
        ({"cycles": 10, "sft_share": 0.27, "finish": "rl"}, (22, 8), 322),
        ({"cycles": 100, "sft_share": 0.3333}, (2, 1), 301),
        ({"cycles": 75, "sft_share": 0.75, "finish": "rl"}, (1, 3), 301),
    ],
)
def test_cycles_share_the_steps_of_rl(options, cycle, steps):
    config = asked(order="alternate", **options)
    assert config.cycle() == cycle
    assert STAGES["alternate"].steps(config) == steps


def test_the_nearest_share_that_is_named_is_accepted():
    for rl_steps, cycles, share, finish in (
        (300, 75, 0.9, "half-rl"),
        (300, 9, 0.5, "sft"),
        (80, 13, 0.01, "rl"),
        (5, 1, 0.25, "half-rl"),
        (7, 1, 0.999, "sft"),
    ):
        given = {"order": "alternate", "rl_steps": rl_steps, "cycles": cycles, "finish": finish}
        with pytest.raises(InputError, match="the nearest is") as caught:
            configuration({**given, "sft_share": share})
        nearest, sft = re.search(r"nearest is ([\d.]+), (\d+) of", str(caught.value)).groups()
        config = configuration({**given, "sft_share": float(nearest)})
        rl, of_cycle = config.cycle()
        assert of_cycle == int(sft) and rl >= (2 if finish == "half-rl" else 1)


def test_a_cycle_of_earlier_versions_is_made_as_it_was():
    """What is refused now may be in a config.json, where it says what was trained."""
    values = asked(order="alternate").as_json() | {"sft_share": 0.9}
    assert from_json(values).cycle() == (1, 3)


# --- what is trained -------------------------------------------------------------------------------


def by_definition(leash, log_p, ref, reward, beta, bonus):
    """The loss that a trainer differentiates at held samples, summed over all of them; T1 is not used."""
    held, u = log_p.detach().exp(), log_p - ref
    k3 = torch.exp(-u) - 1 + u
    ratio = torch.exp(log_p - log_p.detach())
    in_reward = {"k1-in-reward": u.detach(), "k3-in-reward": k3.detach()}.get(leash, 0.0)
    zero = torch.zeros_like(u)
    in_loss = {"k2-in-loss": u**2 / 2, "k3-in-loss": k3, "k3-with-ratio": ratio * k3}
    loss = held * (beta * in_loss.get(leash, zero) - (reward - beta * in_reward) * log_p)
    return (loss + bonus * log_p.exp() * log_p).sum(dim=-1).mean()


def gradient(function, log_p):
    logits = torch.from_numpy(log_p.copy()).requires_grad_()
    function(logits.log_softmax(dim=-1)).backward()
    return logits.grad.numpy()


def random_law(seed):
    logits = np.random.default_rng(seed).normal(size=THREE.reward.shape)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("bonus", [0.0, 0.3])
@pytest.mark.parametrize("leash", RECIPES)
def test_rl_follows_what_its_trainer_differentiates(leash, bonus):
    config = asked(recipe=leash, entropy_bonus=bonus)
    mean, _ = of(config, THREE)
    p, ref = random_law(1), random_law(2)
    goal = Goal("rl", mean, ref, recipe_of(config))
    found = gradient(lambda log_p: goal.loss(log_p, PROCESSES, 0), p)
    world = torch.from_numpy(ref), torch.from_numpy(THREE.reward), config.beta, bonus
    wanted = gradient(lambda log_p: by_definition(leash, log_p, *world), p)
    assert found == pytest.approx(wanted, abs=1e-12)
    other = "k3-in-loss" if leash != "k3-in-loss" else "k2-in-loss"
    wrong = gradient(lambda log_p: by_definition(other, log_p, *world), p)
    assert found != pytest.approx(wrong, abs=1e-3)


def test_a_cycle_is_rl_without_a_leash_and_then_sft():
    config = asked(order="alternate", cycles=75)
    mean, laws = of(config, THREE)
    goal = goal_of(STAGES["alternate"], config, mean, laws)
    log_p = torch.from_numpy(random_law(3))
    reward, data = torch.from_numpy(THREE.reward), torch.from_numpy(THREE.log_d)
    gained = -bounds.expected_reward(log_p, reward).mean()
    lost = bounds.cross_entropy(data, log_p).mean()
    turns = [float(goal.loss(log_p, PROCESSES, step)) for step in range(8)]
    assert turns == pytest.approx(2 * [*3 * [float(gained)], float(lost)])


# --- where it ends ---------------------------------------------------------------------------------


RL = [*((THREE, one) for one in ENDS), *((TWO, one) for one in TWO_LEVELS)]


@pytest.mark.parametrize(("task", "options"), RL, ids=range(len(RL)))
def test_what_is_trained_vanishes_where_its_recipe_ends(task, options):
    config = asked(**options)
    mean, laws = of(config, task)
    goal = goal_of(STAGES["rl"], config, mean, laws)
    end = ending_of(STAGES["rl"], config, mean, laws).log_p

    def size(log_p):
        return np.abs(gradient(lambda moving: goal.loss(moving, PROCESSES, 0), log_p)).max()

    assert size(end) < 1e-12
    assert size(laws["sft"]) > 0.01


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (task, options)
        if options["recipe"] == "k3-in-loss" and task is THREE
        else pytest.param(task, options, marks=pytest.mark.slow)  # rare responses are slow
        for task, options in RL
        if "recipe" in options
    ],
    ids=range(len(RL) - 1),
)
def test_a_tabular_policy_ends_there(task, options):
    config = asked(**options)
    mean, laws = of(config, task)
    end = ending_of(STAGES["rl"], config, mean, laws)
    found = trained(STAGES["rl"], config, task, 250, 0.1)
    assert mean.kl(end.log_p, found) < 1e-3
    assert mean.kl(end.log_p, laws["sft"]) > 0.05  # it has moved


@pytest.mark.parametrize(
    "options",
    [
        {"order": "best-of-n", "best_of": 3},
        {"order": "weighted-sft", "weights": "frontier", "beta": 0.4},
        {"order": "weighted-sft", "weights": "exponential", "beta": 0.4},
        {"order": "replay", "replay_share": 0.3, "beta": 0.4},
    ],
    ids=str,
)
def test_a_distilled_tabular_policy_is_its_target(options):
    config = asked(**options)
    stage = STAGES[options["order"]]
    mean, laws = of(config, THREE)
    end = ending_of(stage, config, mean, laws)
    assert mean.kl(end.log_p, trained(stage, config, THREE, 200, 0.1)) < 1e-3
    assert mean.kl(end.log_p, laws[stage.start]) > 0.05


def test_fine_alternation_ends_on_the_frontier_and_coarse_alternation_does_not():
    found = {}
    for cycles in (50, 3):
        config = asked(order="alternate", rl_steps=200, cycles=cycles)
        mean, laws = of(config, THREE)
        p = trained(STAGES["alternate"], config, THREE, STAGES["alternate"].steps(config), 0.05)
        end = ending_of(STAGES["alternate"], config, mean, laws)
        found[cycles] = mean.kl(end.log_p, p), mean.kl(mean.log_d, p) / mean.average_price(p)
    assert found[50][0] < 2e-3 < 0.02 < found[3][0]
    assert found[50][1] < 1.005 < 1.02 < found[3][1]


def test_recipes_agree_where_rewards_have_two_levels():
    """All pay the price of each prompt's own reward; with three levels only the forward leash does."""
    for task, alike in ((TWO, True), (THREE, False)):
        overpaid = []
        for leash in ("k1-in-reward", "k2-in-loss", "k3-with-ratio", "k3-in-loss"):
            config = asked(recipe=leash, beta=0.4)
            mean = PromptMeans(task.log_d, task.reward, 0.4, 0.05)
            # All of ref but its last response, which the data lack.
            tiny = near_data(task, 1e-12)
            end = ending_of(STAGES["rl"], config, mean, {"sft": tiny})
            overpaid.append(mean.overpaid(end.log_p))
        assert overpaid[3] < 1e-9
        assert (max(overpaid) < 1e-9) is alike


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (THREE, {"recipe": "k3-in-reward"}, "has no end .*objective has no upper bound"),
        (TWO, {"recipe": "k3-in-reward"}, "has no end .*objective has no upper bound"),
        (THREE, {"recipe": "k2-in-loss", **NORMALISED}, "more than two levels"),
        (THREE, {"recipe": "k3-in-loss", "entropy_bonus": 0.1}, "bonus has no closed form"),
    ],
    ids=range(4),
)
def test_a_recipe_without_an_end_is_refused_before_training(task, options, words):
    config = asked(**options)
    with pytest.raises(InputError, match=words):
        must_end(config, task.reward)
    mean, laws = of(config, task)
    with pytest.raises(InputError, match=words):
        goal_of(STAGES["rl"], config, mean, laws)


def test_below_the_critical_beta_only_ref_can_tell():
    config = asked(recipe="k2-in-loss", advantage="group-normalised", beta=0.01)
    must_end(config, TWO.reward)
    mean, laws = of(config, TWO)
    with pytest.raises(InputError, match="below the critical one"):
        goal_of(STAGES["rl"], config, mean, laws)
    must_end(replace(config, beta=5.0), TWO.reward, laws["sft"])


def test_a_refused_run_leaves_no_folder(tmp_path, capsys):
    out = tmp_path / "run"
    given = ["--recipe", "k3-in-reward", "--prompts", "2", "--out", str(out)]
    assert qwen_validate.main(given) == 2
    assert "no upper bound" in capsys.readouterr().err
    assert not out.exists()


# --- the rows --------------------------------------------------------------------------------------


def with_rows(task, ending=None, path=None, **options):
    """All rows of a stage whose policies are arbitrary, and whose ending may be a wrong one."""
    config = asked(**options)
    stage = STAGES[{"sft-rl": "rl"}.get(config.order, config.order)]
    mean, laws = of(config, task)
    end = ending_of(stage, config, mean, laws)
    if ending is not None:
        end = Ending(ending(mean, laws["sft"]), end.name, end.statement)
    made = (
        [Checkpoint(stage.name, 1 + i, random_law(i)) for i in range(3)] if path is None else path
    )
    episode = Episode(mean, [Checkpoint("sft", 1, laws["sft"])], made, [], end)
    return list(ending_checks(config, episode, laws["rl"]))


CASES = [
    *((THREE, {"order": "sft-rl", **one}) for one in ENDS[1:]),
    *((TWO, {"order": "sft-rl", **one}) for one in TWO_LEVELS),
    (THREE, {"order": "best-of-n"}),
    (THREE, {"order": "replay"}),
    (THREE, {"order": "weighted-sft", "beta": 0.4}),
    (THREE, {"order": "alternate"}),
]


@pytest.mark.parametrize(("task", "options"), CASES, ids=range(len(CASES)))
def test_the_rows_hold_whatever_was_trained(task, options):
    rows = with_rows(task, **options)
    assert {row.status for row in rows} <= {Status.HOLDS, Status.UNDECIDED}
    assert {"S9", "S5"} < {row.statement for row in rows} or options["order"] == "alternate"


def forward(mean, ref):
    return bounds.forward_leash_optimum(ref, mean.reward, mean.beta)


@pytest.mark.parametrize(
    ("task", "options", "wrong"),
    [
        (THREE, CASES[0][1], forward),  # not the tilt
        (THREE, CASES[2][1], lambda mean, ref: mean.tilt(ref)),  # not the frontier's
        (THREE, CASES[3][1], lambda mean, ref: mean.tilt(ref)),  # no bonus
        (TWO, CASES[4][1], lambda mean, ref: mean.tilt(ref)),  # not normalised
        (TWO, CASES[6][1], lambda mean, ref: mean.tilt(ref)),
        (THREE, CASES[7][1], lambda mean, ref: bounds.best_of_n_policy(ref, mean.reward, 40)),
        (THREE, CASES[8][1], lambda mean, ref: mean.tilt(ref)),
        (THREE, CASES[9][1], lambda mean, ref: mean.tilt(ref)),
    ],
    ids=range(8),
)
def test_a_wrong_end_is_refuted(task, options, wrong):
    rows = with_rows(task, ending=wrong, **options)
    statement = {row.statement for row in rows if row.status is Status.REFUTED}
    assert len(statement) == 1 and statement < {"T1", "T2", "T4", "T7", "T8", "T9", "T11"}


def test_overpayment_without_mass_off_the_data_is_refuted(monkeypatch):
    """S9's last term: responses that the data lack."""

    def cut(log_d, log_p, reward):
        off = np.exp(np.where(np.isinf(log_d), log_p, -np.inf)).sum(axis=1)
        return real(log_d, log_p, reward) - off * 0.1

    real = means.bounds.overpayment
    monkeypatch.setattr(means.bounds, "overpayment", cut)
    refuted = {
        row.statement for row in with_rows(THREE, order="alternate") if row.status is Status.REFUTED
    }
    assert refuted == {"S9"}


def test_the_average_price_is_attained_on_the_frontier_of_the_data():
    best = bounds.forward_leash_optimum(THREE.log_d, THREE.reward, 0.4)
    tilt = bounds.gibbs_tilt(THREE.log_d, THREE.reward, 0.4)
    path = [Checkpoint("alternate", 1, best), Checkpoint("alternate", 2, tilt)]
    rows = with_rows(THREE, path=path, order="alternate")
    on, off = (row.margin for row in rows if row.statement == "S5")
    assert on == pytest.approx(0, abs=1e-9)
    assert 0.05 < off < 0.2


def test_the_tilt_with_a_reward_has_it():
    mean, _ = of(configuration({}), THREE)
    for target in (mean.data_reward + 1e-3, 1.2, 1.49):
        assert mean.j(mean.tilt_with_reward(mean.log_d, target)) == pytest.approx(target, abs=1e-9)


def test_predictions_say_how_far_and_how_dear():
    config = asked(recipe="k3-in-loss", beta=0.4)
    mean, laws = of(config, THREE)
    end = ending_of(STAGES["rl"], config, mean, laws)
    tilt = mean.tilt_with_reward(laws["sft"], mean.j(end.log_p))
    ref = [Checkpoint("sft", 1, laws["sft"])]
    for p, close, times in ((end.log_p, True, True), (tilt, False, False)):
        episode = Episode(mean, ref, [Checkpoint("rl", 1, p)], [], end)
        found = {one.quantity: one for one in _ending_predictions(episode, end)}
        assert (found["KL(predicted||p)"].observed < 1e-12) is close
        paid = found["paid over the least for this reward"]
        assert (paid.observed < 1.02) is times
        assert found["the same, if it were the tilt with this reward"].predicted > 1.1


# --- whole runs ------------------------------------------------------------------------------------


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize(
    "options",
    [
        ["--order", "cycle", "--recipe", "k3-in-loss", "--beta", "0.4"],
        ["--order", "alternate", "--cycles", "10"],
        ["--order", "replay"],
    ],
    ids=str,
)
def test_a_run_reports_its_end_and_is_read_again(tmp_path, small, options):
    folder = tmp_path / "run"
    assert qwen_validate.main([*small, *options, "--out", str(folder)]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["counts"]["REFUTED"] == 0
    assert any(row["statement"] == "S9" for row in report["rows"])
    assert any(one["quantity"] == "KL(predicted||p)" for one in report["predictions"])
    before = (folder / "report.json").read_bytes()
    (folder / "report.json").unlink()
    assert qwen_validate.main(["--out", str(folder), "--resume"]) == 0
    assert (folder / "report.json").read_bytes() == before


def test_what_sft_takes_back_is_predicted_from_where_the_recipe_ends():
    config = asked(order="sft-rl", recipe="k3-in-loss", beta=0.3)
    mean, laws = of(config, THREE)
    end = ending_of(STAGES["rl"], config, mean, laws)
    ref, trained, data = Checkpoint("sft", 1, laws["sft"]), end.log_p, THREE.log_d
    after = [Checkpoint("sft-after-rl", 1, data)]
    episode = Episode(mean, [ref], [Checkpoint("rl", 1, trained)], after, end)
    lost = {p.statement: p for p in _predictions(episode) if "lost by SFT" in p.quantity}
    assert list(lost) == ["T2"]
    assert lost["T2"].predicted == pytest.approx(lost["T2"].observed, rel=1e-12)
    without = replace(episode, ending=None)
    from_tilt = [p for p in _predictions(without) if p.quantity == "reward lost by SFT, from ref"]
    assert from_tilt[0].predicted != pytest.approx(lost["T2"].observed, rel=0.02)
