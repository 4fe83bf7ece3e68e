#!/usr/bin/env python
"""What recipes of RL, of SFT on ref's own responses and of both by turns pay in samples, at the rewards reached.

    python experiments/sweep.py --seed 0 1 2 --beta 0.2 0.4 --order sft-rl --reward combined --out runs/in-loss \
        -- --protocol sampled --rl k3-in-loss
    python experiments/sweep.py --seed 0 1 2 --beta 0.2 0.4 --order weighted-sft --reward combined --out runs/frontier \
        -- --protocol sampled --weights frontier
    python experiments/sampled_recipes.py runs/in-loss runs/frontier --write runs/recipes

The folders are those of qwen_validate.py or sweep.py. Per stage of RL, of SFT on ref's own responses, or of
alternation, after SFT: the average reward and KL(d||p), the SFT loss above its least, each with its 95 % interval; and
what else has that reward: the least of any policy (S5), exact under the experts' law, and by a lower end where the data
are ref's own; and, in the finite world that ref's responses suggest, exact RL from the same ref by the reverse leash
(S1) and by the forward leash on the response (T2), at the beta that ends there. That world has ref's probabilities of
the experts' responses, which are exact, and estimates the law of all others: what is exact in it is an estimate, the
better the less of ref's mass is off the experts' list and the more its responses.
Beside the reward reached stands that of the exact end of the recipe at its beta, where theory names one (S1, T2, T4;
T7; T9 for large groups; T6 for short cycles, beta = SFT steps : RL steps): of the objective whose gradient the trainer
takes on average, with (G-1)/G of the reward where it is compared with the mean of its own group, and with the leash on
the response, whatever the trainer does per token (T3). R^2 is that of log(p/ref) on the reward, within prompts and
under ref, on the experts' responses, of the policy and of that end. It is 1 at the tilt, however far, and less at other
ends: only what is below the end's is training's.

The table averages over seeds; it has a number for a recipe only where the reward rose in each. Below it, how any
two recipes differ at the seeds that both have: Student's t interval over seeds, at 95 %. Rewards are not quite equal:
what was paid *beyond the exact reverse leash* with the run's own reward takes that out. Runs that differ in more than
recipe, beta and seed are refused.

Exit status: 0 done, 2 usage error or nothing to compare.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy import stats
from validate.configuration import SampledConfiguration, option
from validate.errors import RunError
from validate.finished_runs import Reached, complete_runs, parser_of_runs, write_table
from validate.pareto import Landscape
from validate.run_folder import MEASUREMENTS, RunFolder
from validate.same_reward import Optimum, law_at_reward
from validate.sampled.digest import Result, digest
from validate.sampled.ends import HAVE_AN_END, end_of
from validate.sampled.forecasting import recipe_of_trl
from validate.sampled.inputs import inputs_of
from validate.sampled.landscape import least_loss
from validate.sampled.measuring import load_measurement
from validate.sampled.resampling import resampled

from nondecoupling import bounds
from nondecoupling.estimate import mean_interval

DISPLAY = 0.05


@dataclass(frozen=True)
class RecipeOutcome:
    """One stage; nats per response. ``rl`` is the trainer of RL, or the name of what is in its place, ``beta`` None
    where it has none. ``before`` is KL(d||ref), ``paid`` KL(d||p); ``reverse``, ``forward`` and ``least`` are None
    where the reward did not rise, the first two at the best reward too; ``reward_at_end`` and ``alignment_at_end`` are
    None for a trainer whose end no statement names, the latter also where no prompt has two rewards."""

    rl: str
    beta: float | None
    seed: int
    before: Reached
    reward_before: Reached
    reward: Reached
    reward_at_end: float | None
    alignment: float
    alignment_at_end: float | None
    paid: Reached
    reverse: float | None
    forward: float | None
    least: float | None


# What runs may differ in that one table compares.
OF_ALTERNATION = ("cycles", "sft_share", "finish")
COMPARED = ("order", "rl", "beta", "weights", "best_of", "seed", *OF_ALTERNATION)


def alignment(log_ref: np.ndarray, log_p: np.ndarray, reward: np.ndarray) -> float:
    """R^2 of log(p/ref) on the reward under ref, pooled within prompts; [prompts, responses], a part of all responses.

    With centred h = log(p/ref) and r it is E[h r]^2 / (E[h^2] E[r^2]). NaN where p is ref or no prompt has two rewards.
    """
    weight = np.exp(log_ref - np.logaddexp.reduce(log_ref, axis=1, keepdims=True))
    h, r = (x - (weight * x).sum(axis=1, keepdims=True) for x in (log_p - log_ref, reward))
    variances = (weight * h**2).sum() * (weight * r**2).sum()
    return float((weight * h * r).sum() ** 2 / variances) if variances > 0 else np.nan


def paid_at_reward(land: Landscape, optimum: Optimum, reward: float) -> float | None:
    """KL(d||p) of the optimum with this average reward; None if no beta ends there, as at the best reward."""
    if reward >= float(land.reward.max(axis=1).mean()):
        return None
    log_p = law_at_reward(optimum, land.log_ref, land.reward, reward)
    return None if log_p is None else float(bounds.kl_divergence(land.log_d, log_p).mean())


def end_of_rl(config: SampledConfiguration, land: Landscape) -> np.ndarray | None:
    """log p, [prompts, responses], where the run's trainer of RL ends, exactly; None where no statement says."""
    recipe = recipe_of_trl(config)
    if recipe is None:
        return land.tilt
    end = bounds.stationary_policy(land.log_ref, land.reward, recipe)
    return end.log_p if end.stationary.all() else None


def configuration_of(folder: RunFolder) -> SampledConfiguration:
    """
    Raises:
        RunError: not a sampled run.
    """
    config = folder.configuration({})
    if not isinstance(config, SampledConfiguration):
        raise RunError(f"{folder.path}: a run of --protocol {config.protocol}; give sampled ones")
    return config


def refuse_other_settings(configs: Mapping[Path, SampledConfiguration]) -> None:
    """
    Raises:
        RunError: two runs differ in something else than recipe, beta and seed.
    """
    (first, one), *others = configs.items()
    for place, other in others:
        for name in (field.name for field in fields(one) if field.name not in COMPARED):
            mine, its = getattr(one, name), getattr(other, name)
            if mine != its:
                raise RunError(
                    f"{option(name)} is {mine} in {first} and {its} in {place}: give runs that are alike but for "
                    "recipe, beta and seed"
                )


def outcome_of(folder: RunFolder) -> RecipeOutcome:
    """
    Raises:
        RunError: not a sampled run of RL, SFT on ref's own responses or alternation from SFT, or without its
            measurements.
    """
    config = configuration_of(folder)
    inputs, prompts = inputs_of(config, folder), config.pilot_prompts + config.eval_prompts
    measured, stage = {}, config.order if config.order in HAVE_AN_END else "rl"
    for name in ("sft", stage):
        place = folder.path / MEASUREMENTS / f"{name}.jsonl"
        if not place.exists():
            raise RunError(
                f"{place} is missing; give a run with RL after SFT, such as --order sft-rl, or one of --order "
                f"{' or '.join(HAVE_AN_END)}, and the folder of the run itself"
            )
        measured[name] = load_measurement(place, prompts)
    return _outcome(digest(config, inputs.task, inputs.reward, measured, {}), stage)


def _outcome(result: Result, stage: str) -> RecipeOutcome:
    config, land, e = result.config, result.landscapes["sft"], result.evidence(stage)
    within, reached = result.experts.reward.bounds, float(e.reward.mean())
    rewards = e.experts.listed_reward
    name, beta, end = _named_end(config, land)
    return RecipeOutcome(
        rl=name,
        beta=beta,
        seed=config.seed,
        before=Reached.of(resampled(e.ref_excess)(DISPLAY)),
        reward_before=Reached.of(mean_interval(e.ref_reward, within, DISPLAY)),
        reward=Reached.of(mean_interval(e.reward, within, DISPLAY)),
        reward_at_end=None if end is None else _average(land, end),
        alignment=alignment(e.ref.expert_log_p, e.policy.expert_log_p, rewards),
        alignment_at_end=None if end is None else _alignment_at(end, land, rewards),
        paid=Reached.of(resampled(e.excess)(DISPLAY)),
        reverse=paid_at_reward(land, bounds.gibbs_tilt, reached),
        forward=paid_at_reward(land, bounds.forward_leash_optimum, reached),
        least=_least(result, reached) if reached > float(e.ref_reward.mean()) else None,
    )


def _named_end(
    config: SampledConfiguration, land: Landscape
) -> tuple[str, float | None, np.ndarray | None]:
    if config.order not in HAVE_AN_END:
        return config.rl, config.beta, end_of_rl(config, land)
    name, beta, _, log_p = end_of(config, land)
    return name, beta, log_p


def _least(result: Result, reward: float) -> float:
    return float(least_loss(result.on_ref("sft"), reward, DISPLAY))


def _average(land: Landscape, log_p: np.ndarray) -> float:
    return float(bounds.expected_reward(log_p, land.reward).mean())


def _alignment_at(end: np.ndarray, land: Landscape, rewards: np.ndarray) -> float | None:
    """On the experts' responses, which come first."""
    listed = slice(0, rewards.shape[1])
    found = alignment(land.log_ref[:, listed], end[:, listed], rewards)
    return None if np.isnan(found) else found


HEAD = ["recipe", "beta", "seeds", "reward before", "KL(d‖ref)", "reward", "at the exact end"]
HEAD += ["R²", "R² at the exact end", "paid, nats"]
HEAD += ["exact reverse leash", "exact forward leash", "least", "paid / reverse leash"]


def table(found: Sequence[RecipeOutcome]) -> str:
    """Markdown: a line per recipe and beta, mean ± standard deviation over seeds."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    for rl, beta in dict.fromkeys((one.rl, one.beta) for one in found):
        mine = [one for one in found if (one.rl, one.beta) == (rl, beta)]
        cells = [rl, "-" if beta is None else f"{beta:.3g}", str(len(mine)), *_cells(mine)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _label(one: RecipeOutcome) -> tuple[str, float | None, int]:
    return one.rl, one.beta, one.seed


def _named(rl: str, beta: float | None) -> str:
    return rl if beta is None else f"{rl}, beta {beta:.3g}"


def differences(found: Sequence[RecipeOutcome]) -> str:
    """A line of Markdown per two recipes and betas with at least two seeds in common: the first less the second."""
    at = {_label(one): one for one in found}
    groups = dict.fromkeys((rl, beta) for rl, beta, _ in at)
    lines = []
    for second, first in itertools.combinations(groups, 2):
        seeds = [seed for *group, seed in at if tuple(group) == first and (*second, seed) in at]
        if len(seeds) < 2:
            continue
        pairs = [(at[*first, seed], at[*second, seed]) for seed in seeds]
        said = [
            _gap("paid", [one.paid.value - other.paid.value for one, other in pairs]),
            _gap("reward", [one.reward.value - other.reward.value for one, other in pairs]),
        ]
        beyond = [
            (one.paid.value - one.reverse) - (other.paid.value - other.reverse)
            for one, other in pairs
            if one.reverse is not None and other.reverse is not None
        ]
        if len(beyond) == len(pairs):
            said.append(_gap("beyond the exact reverse leash with its own reward", beyond))
        named = [_named(*one) for one in (first, second)]
        lines.append(f"- {named[0]}, beside {named[1]}: {'; '.join(said)}.")
    return "\n".join(lines) + "\n" if lines else ""


def _gap(name: str, gaps: Sequence[float]) -> str:
    low, high = stats.ttest_1samp(gaps, 0.0).confidence_interval(1 - DISPLAY)
    above = sum(gap > 0 for gap in gaps)
    return f"{name} {np.mean(gaps):.3f} more, {low:.3f} to {high:.3f}, more at {above} of {len(gaps)} seeds"


def _cells(some: Sequence[RecipeOutcome]) -> Iterator[str]:
    for name in ("reward_before", "before", "reward"):
        yield _spread([getattr(one, name).value for one in some])
    for name in ("reward_at_end", "alignment", "alignment_at_end"):
        yield _spread([getattr(one, name) for one in some])
    yield _spread([one.paid.value for one in some])
    for name in ("reverse", "forward", "least"):
        yield _spread([getattr(one, name) for one in some])
    yield _spread([one.paid.value / one.reverse if one.reverse else None for one in some])


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    text = f"{np.mean(known):.3f}"
    return f"{text} ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else text


def _refuse_repetitions(found: Sequence[RecipeOutcome]) -> None:
    """
    Raises:
        RunError: two runs are of one recipe, beta and seed: one would count twice.
    """
    for label, times in Counter(map(_label, found)).items():
        if times > 1:
            rl, beta, seed = label
            raise RunError(f"{times} runs of {_named(rl, beta)}, seed {seed}: give one of them")


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser_of_runs(__doc__).parse_args(arguments)
    try:
        runs = complete_runs(given.runs)
        refuse_other_settings({run: configuration_of(RunFolder(run)) for run in runs})
        found = [outcome_of(RunFolder(run)) for run in runs]
        _refuse_repetitions(found)
    except RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    found.sort(key=lambda one: (one.rl, one.beta or 0.0, one.seed))
    text = "\n".join(filter(None, (table(found), differences(found))))
    print(text)
    if given.write:
        write_table(given.write, text, found, "sampled_recipes.py", given.runs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
