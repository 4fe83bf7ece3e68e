#!/usr/bin/env python
"""Forecasts made before RL, held against what RL then did, in the run folders of qwen_validate.py.

    python experiments/sweep.py --seed 0 1 2 --beta 0.2 0.5 --order sft-rl --out runs/rl -- --protocol sampled
    python experiments/forecast_outcomes.py runs/rl --write experiments/results/forecast-outcomes

A forecast sees the responses of the policy that RL starts from, with their rewards, and those of the experts:
what was measured before RL in a sampled run; in an enumerated one responses drawn here from the law that was recorded.
It never sees the policy that RL made. Per RL stage: the reward and the change of the SFT loss at the run's beta,
forecast and reached, and the floor: what any policy with the reached reward pays on the start policy's own data,
against what this one paid. A floor is broken where the paid divergence is below it. Each floor is right with
probability 0.95; in a sampled run the reward and the paid divergence are estimates, so the floor is that of the lower
end of the reward's 95 % interval, and the upper end of the other's has to lie below it. A floor of 0 says nothing.

Exit status: 0 no floor is broken, 2 usage error or nothing to compare, 5 a floor is broken.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from validate.configuration import EnumeratedConfiguration, RunConfiguration, SampledConfiguration
from validate.enumerated.digest import digest as enumerated_digest
from validate.enumerated.endings import recipe_of
from validate.enumerated.inputs import inputs_of as enumerated_inputs
from validate.enumerated.training import planned as enumerated_plan
from validate.errors import RunError, RunFolderError
from validate.finished_runs import Reached, complete_runs, parser_of_runs, write_table
from validate.orders import EPISODES, STAGES
from validate.run_folder import MEASUREMENTS, RunFolder
from validate.sampled.digest import digest as sampled_digest
from validate.sampled.inputs import inputs_of as sampled_inputs
from validate.sampled.measuring import load_measurement
from validate.sampled.resampling import resampled
from validate.sampled.trl_options import TRL_OPTIONS

from nondecoupling import bounds
from nondecoupling.estimate import mean_interval
from nondecoupling.forecast import AtBeta, Estimate, Samples, forecast
from nondecoupling.recipes import Recipe

# Responses per prompt that a forecast of an enumerated run draws: of the start policy, and of the experts.
DRAWN, EXPERTS = 32, 16
DISPLAY = 0.05


@dataclass(frozen=True)
class RlStage:
    """One RL stage: what a forecast may see, and what RL did; losses in nats per response."""

    samples: Samples
    recipe: Recipe | None
    reward: Reached
    expert_loss_change: Reached
    own_loss_change: Reached


@dataclass(frozen=True)
class ForecastOutcome:
    """One line of the table; the ``predicted`` are None where the samples do not support that beta."""

    run: str
    protocol: str
    trainer: str
    beta: float
    rate: float
    seed: int
    stage: str
    predicted_reward: tuple[float, float, float] | None
    reward: Reached
    predicted_loss: tuple[float, float, float] | None
    loss: Reached
    floor: float
    paid: Reached

    @property
    def floor_holds(self) -> bool:
        return self.paid.high >= self.floor

    @property
    def says_something(self) -> bool:
        """Whether the floor could have been broken."""
        return self.floor > 0 and np.isfinite(self.paid.high)


def stages_of(folder: RunFolder) -> Iterator[tuple[str, RunConfiguration, RlStage]]:
    """The RL stages of a run that is complete."""
    config = folder.configuration({})
    if isinstance(config, EnumeratedConfiguration):
        yield from _enumerated(folder, config)
    elif isinstance(config, SampledConfiguration):
        yield from _sampled(folder, config)


def _enumerated(
    folder: RunFolder, config: EnumeratedConfiguration
) -> Iterator[tuple[str, RunConfiguration, RlStage]]:
    task = enumerated_inputs(config).task
    result = enumerated_digest(config, task, folder.all_records(enumerated_plan(config)))
    rng = np.random.default_rng(config.seed)
    for episode in result.episodes:
        stage = STAGES[episode.rl[-1].stage]
        if stage.objective != "rl":
            continue
        ref, p, mean = episode.ref.log_p, episode.rl[-1].log_p, episode.mean
        drawn = Samples(
            _drawn(rng, ref, task.reward, DRAWN),
            reward_bounds=(task.reward.min(), task.reward.max()),
            expert_rewards=_drawn(rng, mean.log_d, task.reward, EXPERTS),
        )
        rise = mean.ce(mean.log_d, p) - mean.ce(mean.log_d, ref)
        yield (
            stage.title,
            config,
            RlStage(
                drawn,
                recipe_of(config),
                Reached.exact(mean.j(p)),
                Reached.exact(rise),
                Reached.exact(float(bounds.kl_divergence(ref, p).mean())),
            ),
        )


def _drawn(rng: np.random.Generator, log_p: np.ndarray, reward: np.ndarray, k: int) -> np.ndarray:
    """Rewards of k responses to each prompt, [prompts, k]."""
    chosen = [rng.choice(len(p), size=k, p=p / p.sum()) for p in np.exp(log_p)]
    return np.take_along_axis(reward, np.stack(chosen), axis=1)


def _sampled(
    folder: RunFolder, config: SampledConfiguration
) -> Iterator[tuple[str, RunConfiguration, RlStage]]:
    inputs = sampled_inputs(config, folder)
    prompts = len(inputs.task.evaluation)
    places = sorted((folder.path / MEASUREMENTS).glob("*.jsonl"))
    if not places:
        raise RunFolderError(
            f"{folder.path} has no {MEASUREMENTS}/, which the forecast is made from; give the folder of the run itself"
        )
    measured = {place.stem: load_measurement(place, prompts) for place in places}
    ordered = {name: measured[name] for name in STAGES if name in measured}
    result = sampled_digest(config, inputs.task, inputs.reward, ordered, {})
    trl = {"beta": config.beta, "num_generations": config.generations, **TRL_OPTIONS[config.rl]}
    recipe = None if config.rl == "rloo" else Recipe.from_trl(trl, trainer="grpo")
    rng = np.random.default_rng(config.seed)
    for _, name, _ in EPISODES:
        stage = STAGES[name]
        if name not in ordered or stage.objective != "rl":
            continue
        e = result.evidence(name)
        bounds_of_reward = result.experts.reward.bounds
        drawn = Samples(
            e.ref.rewards,
            reward_bounds=bounds_of_reward,
            expert_rewards=_drawn(rng, e.experts.log_d, e.ref.expert_rewards, EXPERTS),
        )
        yield (
            stage.title,
            config,
            RlStage(
                drawn,
                recipe,
                Reached.of(mean_interval(e.reward, bounds_of_reward, DISPLAY)),
                Reached.of(resampled(e.excess - e.ref_excess)(DISPLAY)),
                Reached.of(resampled(e.policy.back_kl.mean(axis=1))(DISPLAY)),
            ),
        )


def outcome_of(name: str, title: str, config: RunConfiguration, stage: RlStage) -> ForecastOutcome:
    plan = forecast(stage.samples, recipe=stage.recipe)
    at_beta = plan.at_beta(config.beta)
    floor = plan.at_reward(stage.reward.low).price.low
    supported = at_beta if isinstance(at_beta, AtBeta) else None
    trainer = config.rl if isinstance(config, SampledConfiguration) else "exact gradient"
    return ForecastOutcome(
        run=name,
        protocol=config.protocol,
        trainer=trainer,
        beta=config.beta,
        rate=config.rl_rate,
        seed=config.seed,
        stage=title,
        predicted_reward=_ends(supported.reward) if supported else None,
        reward=stage.reward,
        predicted_loss=_ends(supported.expert_loss_change) if supported else None,
        loss=stage.expert_loss_change,
        floor=float(floor),
        paid=stage.own_loss_change,
    )


def _ends(estimate: Estimate | None) -> tuple[float, float, float] | None:
    if estimate is None:
        return None
    return float(estimate.value), float(estimate.low), float(estimate.high)


def table(found: Sequence[ForecastOutcome]) -> str:
    """Markdown: a line per RL stage, and how often the floor held and the forecasts were off.

    Learning rates are shown where there are several.
    """
    rates = len({one.rate for one in found}) > 1
    head = ["protocol", "trainer", "beta", *(["learning rate"] if rates else []), "seed", "stage"]
    head += ["reward, forecast", "reached"]
    head += ["SFT loss change, forecast", "trained", "floor", "paid"]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head))]
    for one in found:
        cells = [one.protocol, one.trainer, f"{one.beta:g}"]
        cells += [f"{one.rate:g}"] if rates else []
        cells += [str(one.seed), one.stage]
        cells += [_shown(one.predicted_reward), f"{one.reward.value:.3f}"]
        cells += [_shown(one.predicted_loss), f"{one.loss.value:+.3f}"]
        cells += [f"{one.floor:.3f}", f"{one.paid.value:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_summary(found, rates)]
    return "\n".join(lines) + "\n"


def _shown(predicted: tuple[float, float, float] | None) -> str:
    if predicted is None:
        return "not supported"
    value, low, high = predicted
    return f"{value:.3f} in [{low:.3f}, {high:.3f}]"


def _summary(found: Sequence[ForecastOutcome], rates: bool) -> Iterator[str]:
    told = [one for one in found if one.says_something]
    held = sum(one.floor_holds for one in told)
    yield (
        f"- The floor held in {held} of {len(told)} where it could have been broken, among {_stages(len(found))}; "
        "each is right with probability 0.95."
    )
    for protocol, rate in sorted({(one.protocol, one.rate) for one in found}):
        group = [one for one in found if (one.protocol, one.rate) == (protocol, rate)]
        mine = [one for one in group if one.predicted_reward]
        name = f"{protocol} at learning rate {rate:g}" if rates else protocol
        if not mine:
            yield f"- {name}: no beta was supported."
            continue
        short = [one.predicted_reward[0] - one.reward.value for one in mine if one.predicted_reward]
        off = [one.loss.value - one.predicted_loss[0] for one in mine if one.predicted_loss]
        yield (
            f"- {name}, {_stages(len(mine))} whose beta was supported: RL ended {np.mean(short):.3f} of reward below "
            f"the forecast{_range(short)}; the SFT loss on the experts' data rose by "
            f"{np.mean(off):+.3f} nats more than forecast{_range(off)}."
        )


def _stages(count: int) -> str:
    return "one stage" if count == 1 else f"{count} stages"


def _range(values: Sequence[float]) -> str:
    return f" (from {min(values):+.3f} to {max(values):+.3f})" if len(values) > 1 else ""


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser_of_runs(__doc__).parse_args(arguments)
    found: list[ForecastOutcome] = []
    try:
        for folder in complete_runs(given.runs):
            found += _outcomes_of(folder)
        if not found:
            raise RunError(
                "nothing to compare: no run has an RL stage that a forecast can be made for"
            )
    except RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    text = table(found)
    print(text)
    if given.write:
        write_table(given.write, text, found, "forecast_outcomes.py", given.runs)
    return 0 if all(one.floor_holds for one in found) else 5


def _outcomes_of(folder: Path) -> Iterator[ForecastOutcome]:
    """Of a run's RL stages; those that no forecast can be made for are named."""
    stages = stages_of(RunFolder(folder))
    while True:
        try:
            title, config, stage = next(stages)
            yield outcome_of(folder.name, title, config, stage)
        except StopIteration:
            return
        except ValueError as error:  # too few prompts, no spread, a reward at the edge of its range
            print(f"{folder}: left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
