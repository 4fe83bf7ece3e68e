#!/usr/bin/env python
"""Forecasts that were written before RL, held against what RL then did, in the run folders of qwen_validate.py.

    python experiments/sweep.py --seed 0 1 2 --beta 0.2 0.5 --order sft-rl --out runs/rl -- --protocol sampled
    python experiments/forecast_outcomes.py runs/rl --write experiments/results/forecast-outcomes

A run writes forecast-<ref>.json before RL's first step (``validate/forecasts.py``), from responses of the policy that
RL starts from, with their rewards, and those of the experts: what was measured before RL in a sampled run; in an
enumerated one responses drawn from the law that was recorded. Nothing is forecast here: a stage without that file, as
in runs of earlier versions, or with one that says why there is no forecast, is left out and named. So is a run that
cannot be read, such as one without measurements or whose data have changed; the others are compared all the same.

Per RL stage, forecast at the run's beta and reached: the reward, the change of the SFT loss on the experts' data, of
that on the start policy's own, which is KL(ref||p), and KL(p||ref). The forecast is for the run's own recipe, with its
leash on whole responses also where the trainer has one on each token. GRPO as TRL has it (``--rl grpo``) divides
advantages by the standard deviation of a group: its beta counts in these and not in rewards, so the same beta is a
weaker leash there (T4).
The floor is what any policy with the reached reward pays on the start policy's own data, by the responses in the file,
against what this one paid. A floor is broken where the paid divergence is below it. Each floor is right with
probability 0.95; in a sampled run the reward and the paid divergence are estimates, so the floor is that of the lower
end of the reward's 95 % interval, and the upper end of the other's has to lie below it. A floor of 0 says nothing. No
floor is about a reward at the edge of its range or beyond.

Exit status: 0 no floor is broken, 1 nor is one here, but a run could not be read and is left out, 2 usage error or
nothing to compare, 5 a floor is broken.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from validate.configuration import EnumeratedConfiguration, RunConfiguration, SampledConfiguration
from validate.enumerated.digest import digest as enumerated_digest
from validate.enumerated.inputs import inputs_of as enumerated_inputs
from validate.enumerated.training import planned as enumerated_plan
from validate.errors import RunError, RunFolderError
from validate.finished_runs import Reached, complete_runs, parser_of_runs, write_table
from validate.forecasts import NoForecast, WrittenForecast, read_forecast, rl_stages
from validate.orders import STAGES, Stage, plan
from validate.run_folder import MEASUREMENTS, RunFolder
from validate.sampled.digest import digest as sampled_digest
from validate.sampled.inputs import inputs_of as sampled_inputs
from validate.sampled.measuring import load_measurement
from validate.sampled.resampling import resampled

from nondecoupling.estimate import mean_interval
from nondecoupling.forecast import Forecast

DISPLAY = 0.05
# What is forecast, by its names in ``AtBeta``, and what the table calls it.
NUMBERS = {
    "reward": "reward",
    "expert_loss_change": "expert loss change",
    "own_loss_change": "own loss change",
    "kl": "KL(p‖ref)",
}
PAID = "own_loss_change"
LEGEND = (
    "Losses and divergences in nats per response. Expert loss: the SFT loss on the experts' data. Own loss: that on "
    "the start policy's own, whose change is KL(ref‖p), what RL paid; any policy with this reward pays the floor at "
    "least. A floor holds at level 0.95; in a sampled run it is that of the lower end of the reward's 95 % interval."
)


@dataclass(frozen=True)
class WhatRlDid:
    """What one RL stage reached; losses and divergences in nats per response.

    ``expert_loss_change`` is None with self-distilled data, which are the start policy's own.
    """

    reward: Reached
    expert_loss_change: Reached | None
    own_loss_change: Reached
    kl: Reached


@dataclass(frozen=True)
class ForecastAndReached:
    """A number as it was forecast, and as RL reached it.

    ``forecast`` has the ends of its interval, and NaN for a value that is not finite; None where there is none.
    """

    forecast: Reached | None
    reached: Reached

    @property
    def has_two_ends(self) -> bool:
        """Whether the forecast's interval has: one that is open on a side is easily met."""
        predicted = self.forecast
        return predicted is not None and math.isfinite(predicted.high - predicted.low)

    @property
    def is_inside(self) -> bool:
        predicted = self.forecast
        return predicted is not None and predicted.low <= self.reached.value <= predicted.high


@dataclass(frozen=True)
class ForecastOutcome:
    """One line of the table.

    ``unsupported`` is why there is no forecast at this beta, None where there is one. ``floor``, in nats, is None for a
    reward that no floor is about.
    """

    run: str
    protocol: str
    trainer: str
    beta: float
    rate: float
    seed: int
    stage: str
    unsupported: str | None
    reward: ForecastAndReached
    expert_loss_change: ForecastAndReached | None
    own_loss_change: ForecastAndReached
    kl: ForecastAndReached
    floor: float | None

    @property
    def paid(self) -> Reached:
        return self.own_loss_change.reached

    @property
    def floor_holds(self) -> bool:
        return self.floor is None or self.paid.high >= self.floor

    @property
    def says_something(self) -> bool:
        """Whether the floor could have been broken."""
        return self.floor is not None and self.floor > 0 and math.isfinite(self.paid.high)

    def compared(self, name: str) -> ForecastAndReached | None:
        found: ForecastAndReached | None = getattr(self, name)
        return found


def what_rl_did(folder: RunFolder, config: RunConfiguration) -> dict[str, WhatRlDid]:
    """Of each RL stage of a run that is complete, by its name."""
    if isinstance(config, EnumeratedConfiguration):
        return dict(_enumerated(folder, config))
    assert isinstance(config, SampledConfiguration)
    return dict(_sampled(folder, config))


def _enumerated(
    folder: RunFolder, config: EnumeratedConfiguration
) -> Iterator[tuple[str, WhatRlDid]]:
    inputs = enumerated_inputs(config)
    folder.must_have(inputs.digests, config)
    task = inputs.task
    result = enumerated_digest(config, task, folder.all_records(enumerated_plan(config)))
    for episode in result.episodes:
        name = episode.rl[-1].stage
        if STAGES[name].objective != "rl":
            continue
        ref, p, mean = episode.ref.log_p, episode.rl[-1].log_p, episode.mean
        rise = Reached.exact(mean.ce(mean.log_d, p) - mean.ce(mean.log_d, ref))
        yield (
            name,
            WhatRlDid(
                reward=Reached.exact(mean.j(p)),
                expert_loss_change=None if config.self_distilled else rise,
                own_loss_change=Reached.exact(mean.kl(ref, p)),
                kl=Reached.exact(mean.kl(p, ref)),
            ),
        )


def _sampled(folder: RunFolder, config: SampledConfiguration) -> Iterator[tuple[str, WhatRlDid]]:
    inputs = sampled_inputs(config, folder)
    prompts = len(inputs.task.evaluation)
    measurements = folder.path / MEASUREMENTS
    if not measurements.exists():
        raise RunFolderError(
            f"{folder.path} has no {MEASUREMENTS}/, which says what RL did; give the folder of the run itself"
        )
    names = [stage.name for stage in plan(config.order)]
    measured = {name: load_measurement(measurements / f"{name}.jsonl", prompts) for name in names}
    result = sampled_digest(config, inputs.task, inputs.reward, measured, {})
    for rl in rl_stages(config):
        e = result.evidence(rl.name)
        rise = None if config.self_distilled else _resampled(e.excess - e.ref_excess)
        yield (
            rl.name,
            WhatRlDid(
                reward=Reached.of(mean_interval(e.reward, inputs.reward.bounds, DISPLAY)),
                expert_loss_change=rise,
                own_loss_change=_resampled(e.policy.back_kl.mean(axis=1)),
                kl=_resampled(e.kl),
            ),
        )


def _resampled(units: np.ndarray) -> Reached:
    return Reached.of(resampled(units)(DISPLAY))


def outcome_of(
    name: str, rl: Stage, config: RunConfiguration, written: WrittenForecast, did: WhatRlDid
) -> ForecastOutcome:
    at_beta = written.at_beta

    def against(number: str, reached: Reached) -> ForecastAndReached:
        return ForecastAndReached(_predicted(at_beta.get(number)), reached)

    trainer = config.rl if isinstance(config, SampledConfiguration) else "exact gradient"
    rise = did.expert_loss_change
    return ForecastOutcome(
        run=name,
        protocol=config.protocol,
        trainer=trainer,
        beta=config.beta,
        rate=config.rl_rate,
        seed=config.seed,
        stage=rl.title,
        unsupported=at_beta.get("unsupported"),
        reward=against("reward", did.reward),
        expert_loss_change=None if rise is None else against("expert_loss_change", rise),
        own_loss_change=against("own_loss_change", did.own_loss_change),
        kl=against("kl", did.kl),
        floor=_floor(written.forecast, did.reward.low),
    )


def _floor(made: Forecast, reward: float) -> float | None:
    """What any policy with this reward pays at least, in nats; None at the edge of the reward's range or beyond."""
    low, high = made.samples.reward_bounds
    return float(made.at_reward(reward).price.low) if low < reward < high else None


def _predicted(saved: dict[str, Any] | None) -> Reached | None:
    """Of an estimate as a forecast saves it: None in the place of what is not finite."""
    if saved is None:
        return None
    value, low, high = saved["value"], saved["low"], saved["high"]
    value = math.nan if value is None else value
    return Reached(value, -math.inf if low is None else low, math.inf if high is None else high)


def table(found: Sequence[ForecastOutcome]) -> str:
    """Markdown: a line per RL stage, how often the floor held, how far the forecasts were off and RL outside them.

    Learning rates are shown where there are several.
    """
    rates = len({one.rate for one in found}) > 1
    head = ["protocol", "trainer", "beta", *(["learning rate"] if rates else []), "seed", "stage"]
    for number, title in NUMBERS.items():
        head += [f"{title}: forecast", "reached", *(["floor"] if number == PAID else [])]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head))]
    for one in found:
        cells = [one.protocol, one.trainer, f"{one.beta:g}"]
        cells += [f"{one.rate:g}"] if rates else []
        cells += [str(one.seed), one.stage]
        for number in NUMBERS:
            cells += _shown(one.compared(number), bool(one.unsupported), number.endswith("change"))
            cells += [_none_or(one.floor)] if number == PAID else []
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", LEGEND, "", *_summary(found, rates)]
    return "\n".join(lines) + "\n"


def _none_or(floor: float | None) -> str:
    return "none" if floor is None else f"{floor:.3f}"


def _shown(compared: ForecastAndReached | None, unsupported: bool, signed: bool) -> tuple[str, str]:
    if compared is None:
        return "none", "none"
    reached = f"{compared.reached.value:{'+' if signed else ''}.3f}"
    predicted = compared.forecast
    if predicted is None:
        return "not supported" if unsupported else "none", reached
    value = "no number" if math.isnan(predicted.value) else f"{predicted.value:.3f}"
    if math.isinf(predicted.low) and math.isinf(predicted.high):
        return f"{value}, no limits", reached
    return f"{value} in [{predicted.low:.3f}, {predicted.high:.3f}]", reached


def _summary(found: Sequence[ForecastOutcome], rates: bool) -> Iterator[str]:
    told = [one for one in found if one.says_something]
    among = f"among {_stages(len(found))}"
    if told:
        held = sum(one.floor_holds for one in told)
        yield (
            f"- The floor held in {held} of {len(told)} where it could have been broken, {among}; each is right with "
            "probability 0.95."
        )
    else:
        yield (
            f"- No floor could be broken, {among}: each is 0 or none, or nothing limits from above what RL paid."
        )
    for protocol, rate in sorted({(one.protocol, one.rate) for one in found}):
        group = [one for one in found if (one.protocol, one.rate) == (protocol, rate)]
        yield _how_far(f"{protocol} at learning rate {rate:g}" if rates else protocol, group)
    for protocol in sorted({one.protocol for one in found}):
        yield from _how_often([one for one in found if one.protocol == protocol])


def _how_far(name: str, group: Sequence[ForecastOutcome]) -> str:
    reward = _differences(group, "reward")
    if not reward:
        return f"- {name}: no beta was supported."
    words = [
        f"{_size(reward)} of reward {_which(reward, 'below', 'above')} the forecast{_range(reward)}"
    ]
    for number, data in (("expert_loss_change", "the experts'"), (PAID, "the start policy's own")):
        if off := _differences(group, number):
            more = _which(off, "less", "more")
            words.append(
                f"the SFT loss on {data} data rose by {_size(off)} nats {more} than forecast{_range(off)}"
            )
    beyond = "; ".join(words)
    return f"- {name}, {_stages(len(reward))} whose beta was supported: RL ended {beyond}."


def _differences(group: Sequence[ForecastOutcome], number: str) -> list[float]:
    """Reached less forecast, where there is one with a value."""
    each = (one.compared(number) for one in group)
    off = [c.reached.value - c.forecast.value for c in each if c is not None and c.forecast]
    return [difference for difference in off if not math.isnan(difference)]


def _size(differences: Sequence[float]) -> str:
    return f"{abs(np.mean(differences)):.3f}"


def _which(differences: Sequence[float], negative: str, positive: str) -> str:
    return negative if np.mean(differences) < 0 else positive


def _how_often(group: Sequence[ForecastOutcome]) -> Iterator[str]:
    """Where RL landed in the intervals, which are about another policy than the one that RL made."""
    counts = []
    for number, title in NUMBERS.items():
        each = [c for one in group if (c := one.compared(number)) is not None and c.has_two_ends]
        if each:
            inside = sum(compared.is_inside for compared in each)
            counts.append(f"{title}, {inside} of {len(each)}")
    if counts:
        yield (
            f"- {group[0].protocol}, how often RL landed in the forecast's interval, among those with two ends: "
            f"{'; '.join(counts)}. The intervals are about the exact optimum at that beta and not about a trained "
            "policy: this says how far RL stayed from there, not how often the intervals fail."
        )


def _stages(count: int) -> str:
    return "one stage" if count == 1 else f"{count} stages"


def _range(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    return f" (reached less forecast: from {min(values):+.3f} to {max(values):+.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser_of_runs(__doc__).parse_args(arguments)
    found: list[ForecastOutcome] = []
    unread = 0
    try:
        for folder in complete_runs(given.runs):
            try:
                found += outcomes_of(RunFolder(folder))
            except RunError as error:
                unread += 1
                print(f"{folder} is left out: {error}", file=sys.stderr)
        if not found:
            raise RunError("nothing to compare: no run has an RL stage with a forecast before it")
    except RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    text = table(found)
    print(text)
    if given.write:
        write_table(given.write, text, found, "forecast_outcomes.py", given.runs)
    if unread:
        print(
            f"Error: {unread} of the runs could not be read and {'is' if unread == 1 else 'are'} left out, see above",
            file=sys.stderr,
        )
    if not all(one.floor_holds for one in found):
        return 5
    return 1 if unread else 0


def outcomes_of(folder: RunFolder) -> Iterator[ForecastOutcome]:
    """Of a run's RL stages; those without a forecast are named.

    Raises:
        RunError: the run cannot be read.
    """
    config = folder.configuration({})
    written: dict[str, WrittenForecast] = {}
    for rl in rl_stages(config):
        try:
            written[rl.name] = read_forecast(folder, rl, config)
        except NoForecast as error:
            print(f"{folder.path}: {rl.title} is left out: {error}", file=sys.stderr)
    did = what_rl_did(folder, config) if written else {}
    for name, made in written.items():
        yield outcome_of(folder.path.name, STAGES[name], config, made, did[name])


if __name__ == "__main__":
    raise SystemExit(main())
