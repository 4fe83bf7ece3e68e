"""From measurements to verdicts on every claim of a run at once, and the plan that the pilot prompts suggest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval, Outcome, detectable_effect, holm, required_samples
from validate.configuration import SampledConfiguration
from validate.orders import EPISODES, STAGES, Stage, plan
from validate.pareto import Landscape
from validate.sampled.claims import (
    FINDING,
    SELF_TEST,
    THEOREM,
    Evidence,
    Experts,
    SampledClaim,
    claims_of,
    finding_at_the_optimum,
    finding_of_the_logs,
    findings_of_rl,
    findings_of_sft,
)
from validate.sampled.ends import HAVE_AN_END, end_of
from validate.sampled.landscape import (
    ExpectedEnd,
    ExpectedMargin,
    expected_changes,
    expected_margins,
    landscape_of,
    predicted,
    reward_noise,
)
from validate.sampled.measuring import Measurement
from validate.sampled.rewards import CheckedReward, strict
from validate.sampled.task import SampledTask

__all__ = ["DecidedClaim", "Plan", "Result", "claims_in", "digest", "experts_of", "plan_of"]

POWER = 0.9
# Rows per policy, per stage that raises the reward and per SFT after RL, whatever d and the reward are: what the
# correction for multiplicity has to expect.
PER_POLICY, PER_RL, PER_SFT = 7, 2, 3


@dataclass(frozen=True)
class DecidedClaim:
    """A claim with its verdict; ``interval`` is simultaneous over all rows (Bonferroni), the verdict is Holm's.

    ``note`` says why there is none, if that is known.
    """

    claim: SampledClaim
    interval: Interval
    outcome: Outcome
    resolution: float | None
    note: str = ""

    @property
    def by_bootstrap(self) -> bool:
        """Whether the verdict rests on an end that holds only for many prompts."""
        decided = self.outcome is not Outcome.INCONCLUSIVE
        return decided and not self.claim.rests_on_an_exact_end(self.outcome)

    @property
    def contradicted(self) -> bool:
        """Whether the opposite of a finding was shown, not only that it does not hold as it was asked."""
        violated = self.claim.kind == FINDING and self.outcome is Outcome.VIOLATED
        return violated and self.claim.shows_opposite


@dataclass(frozen=True)
class Plan:
    """What the pilot prompts said before RL: how many prompts a change of the predicted size needs."""

    quantity: str
    statement: str
    effect: float
    sd: float
    needed: float


@dataclass(frozen=True)
class Result:
    """Everything that the report shows."""

    config: SampledConfiguration
    task: SampledTask
    experts: Experts
    measurements: dict[str, Measurement]
    rows: list[DecidedClaim]
    plans: dict[str, list[Plan]]

    @property
    def pilot(self) -> int:
        return self.config.pilot_prompts

    @cached_property
    def refs(self) -> list[str]:
        return [name for name in self.measurements if STAGES[name].ref is None]

    def policies_of(self, ref: str) -> list[str]:
        return [name for name in self.measurements if STAGES[name].ref == ref]

    def evidence(self, policy: str) -> Evidence:
        """On the prompts that the verdicts rest on."""
        return _evidence(self.experts, self.measurements, policy).part(self.pilot, None)

    def pilot_evidence(self, policy: str) -> Evidence:
        """On the prompts that fix constants before."""
        return _evidence(self.experts, self.measurements, policy).part(0, self.pilot)

    @cached_property
    def landscapes(self) -> dict[str, Landscape]:
        """Of each ref, on the prompts that the verdicts rest on."""
        experts = self.experts.part(self.pilot, None)
        return {ref: landscape_of(experts, self.on_ref(ref).policy) for ref in self.refs}

    @cached_property
    def predicted(self) -> dict[str, dict[str, float]]:
        """What the theory predicts of the optima from each ref, averaged over prompts."""
        weight = self.config.weight
        return {
            ref: {name: float(v.mean()) for name, v in predicted(land, weight).items()}
            for ref, land in self.landscapes.items()
        }

    def on_ref(self, ref: str) -> Evidence:
        """Ref next to itself."""
        own = self.measurements[ref].part(self.pilot, None)
        return Evidence(self.experts.part(self.pilot, None), own, own)

    def count(self, kind: str, outcome: Outcome) -> int:
        return sum(row.claim.kind == kind and row.outcome is outcome for row in self.rows)

    @property
    def contradicted(self) -> int:
        """How many findings are; the other violated ones are denied."""
        return sum(row.contradicted for row in self.rows)

    @property
    def denied(self) -> int:
        return self.count(FINDING, Outcome.VIOLATED) - self.contradicted

    @property
    def outcome(self) -> str:
        """A violated finding is a result, not a failure."""
        bad = self.count(THEOREM, Outcome.VIOLATED) + self.count(SELF_TEST, Outcome.VIOLATED)
        return "violated" if bad else "holds"


def experts_of(
    config: SampledConfiguration, task: SampledTask, reward: CheckedReward, ref: Measurement
) -> Experts:
    """``ref`` is the measurement of any policy: the rewards of the experts' responses do not depend on it."""
    # Ten resamples beyond the farthest end that Holm asks for.
    resamples = max(9999, int(np.ceil(40 * claims_in(config) / config.delta)))
    return Experts(
        log_d=task.log_d,
        listed_reward=ref.expert_rewards,
        reward=reward,
        beta=config.beta,
        weight=config.weight,
        self_distilled=config.self_distilled,
        max_tokens=config.max_tokens,
        resamples=resamples,
    )


def _evidence(experts: Experts, measurements: dict[str, Measurement], policy: str) -> Evidence:
    ref = STAGES[policy].ref
    assert ref is not None
    return Evidence(experts, measurements[ref], measurements[policy])


def claims_in(config: SampledConfiguration) -> int:
    """How many rows a run of this order has at most."""
    experts = (
        not config.self_distilled
    )  # S9 of every policy, S10 of what raises the reward, S6 of RL
    other = PER_RL + experts
    more = dict.fromkeys(("joint", "alternate", "distil"), other)
    more |= {"rl": other + experts, "sft": PER_SFT}
    proxy = config.reward == strict.__name__  # G1 of every policy
    policies = [stage for stage in plan(config.order) if stage.ref]
    return sum(PER_POLICY + experts + proxy + more[stage.objective] for stage in policies)


def plan_of(
    config: SampledConfiguration, experts: Experts, ref: str, measured: Measurement
) -> list[Plan]:
    """From the pilot prompts of a ref, before anything is trained from it: what the stages that have it will do."""
    land = landscape_of(experts, measured)
    delta = config.delta / claims_in(config)
    stages = [stage for stage in plan(config.order) if stage.ref == ref]
    ends = [_expected_end(config, land, stage) for stage in stages if stage.objective != "sft"]
    rows = [row for end in ends for row in expected_changes(land, end)]
    if any(stage.objective == "sft" for stage in stages):
        rows += _expected_drops(land, config.weight)
    plans = []
    for row in [*rows, *expected_margins(land, config.weight, config.self_distilled, ends[0])]:
        effect = float(row.per_prompt.mean())
        # Between prompts, and between the responses to one: the unit is the mean of k.
        sd = float(np.sqrt(row.per_prompt.var(ddof=1) + row.noise / config.responses))
        needed = float(required_samples(effect, sd, delta, POWER)) if effect > 0 else np.inf
        plans.append(Plan(row.quantity, row.statement, effect, sd, needed))
    return plans


def _expected_end(config: SampledConfiguration, land: Landscape, stage: Stage) -> ExpectedEnd:
    if stage.name in HAVE_AN_END:
        end = end_of(config, land)
        return ExpectedEnd(stage, end.log_p, end.statement, end.statement)
    if stage.objective == "joint":
        worlds = land.log_d, land.log_ref, land.reward, land.beta
        return ExpectedEnd(stage, bounds.joint_optimum(*worlds, config.weight), "J1", "J1")
    return ExpectedEnd(stage, land.tilt, "S1", "F3")


def _expected_drops(land: Landscape, weight: float) -> Iterator[ExpectedMargin]:
    """What SFT after RL loses."""
    found = predicted(land, weight)
    noise = reward_noise(land, land.tilt) + reward_noise(land, land.log_d)
    for name, quantity, statement in (
        ("reward_drop", "drop of the reward by SFT after RL", "R2"),
        ("regularized_drop", "drop of the regularised reward by SFT after RL", "R1"),
    ):
        yield ExpectedMargin(statement, quantity, found[name], noise)


def digest(
    config: SampledConfiguration,
    task: SampledTask,
    reward: CheckedReward,
    measurements: dict[str, Measurement],
    plans: dict[str, list[Plan]],
) -> Result:
    experts = experts_of(config, task, reward, next(iter(measurements.values())))
    claims = list(_claims(experts, measurements, config.pilot_prompts))
    outcomes = holm(
        [claim.margin for claim in claims], config.delta, [claim.relation for claim in claims]
    )
    share = config.delta / len(claims)
    rows = [
        DecidedClaim(
            claim,
            claim.margin(share),
            outcome,
            _resolution(claim, share),
            _note(claim, outcome, share),
        )
        for claim, outcome in zip(claims, outcomes, strict=True)
    ]
    return Result(config, task, experts, measurements, rows, plans)


def _claims(
    experts: Experts, measurements: dict[str, Measurement], pilot: int
) -> Iterator[SampledClaim]:
    def sides(policy: str) -> tuple[Evidence, Evidence]:
        whole = _evidence(experts, measurements, policy)
        return whole.part(0, pilot), whole.part(pilot, None)

    for _, rl, after in EPISODES:
        if rl not in measurements:
            continue
        yield from claims_of(rl, *sides(rl))
        yield from findings_of_rl(rl, *sides(rl))
        if not experts.self_distilled:  # there both are Jensen's inequality
            yield finding_of_the_logs(rl, *sides(rl))
            if STAGES[rl].objective == "rl":
                yield finding_at_the_optimum(rl, sides(rl)[1])
        if after in measurements:
            yield from claims_of(after, *sides(after))
            yield from findings_of_sft(after, sides(rl)[1], sides(after)[1])


def _note(claim: SampledClaim, outcome: Outcome, delta: float) -> str:
    """Holm may have decided at a larger delta, where there is nothing to say."""
    if claim.silence is None or outcome is not Outcome.INCONCLUSIVE:
        return ""
    return claim.silence(delta)


def _resolution(claim: SampledClaim, delta: float) -> float | None:
    """S8: the smallest margin that this many prompts confirm with probability ``POWER``."""
    if claim.units is None:
        return None
    return float(detectable_effect(len(claim.units), claim.units.std(ddof=1), delta, POWER))
