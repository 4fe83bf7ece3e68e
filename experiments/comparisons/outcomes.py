"""Trains every method from the result of one SFT, and says what it reached and paid, beside what was predicted."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.endings import ending_of
from validate.enumerated.head_precision import precision_of_run
from validate.enumerated.inputs import EnumeratedInputs
from validate.enumerated.means import PromptMeans
from validate.enumerated.run import encoded_task
from validate.enumerated.training import Trainer, goal_of
from validate.errors import InputError, RunFolderError
from validate.models import model_of_run
from validate.orders import BASE, STAGES, Stage, plan

from comparisons.methods import Method, Natural
from comparisons.natural import NotReached, cycles, limit, settled_after
from nondecoupling.lm.enumerated_law import EnumeratedLaw, check_precision, choose_layout
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes

__all__ = ["MethodOutcome", "Paid", "outcomes"]

Law = NDArray[np.float64]
# The options that say nothing about the stages before the last one.
OF_LAST_STAGES = (
    "order",
    "weight",
    "cycles",
    "sft_share",
    "finish",
    "replay_share",
    "best_of",
    "weights",
)
# Relative, and far beyond rounding: other runs of the same SFT agreed to 1e-5, those of two versions only to 0.2.
SAME_EPS = 1e-3


@dataclass(frozen=True)
class Paid:
    """A policy's reward and KL(d||p), averages over prompts, and what the same reward costs otherwise, in nats.

    ``least`` is the price of the average reward (S5), ``tilt`` what the exact tilt of the data with that reward pays,
    ``overpaid`` what the prompts paid beyond the price of their own rewards (S9). NaN where no reward was bought;
    ``tilt`` also where no tilt has the reward, which is beyond the best of what the data have.
    """

    reward: float
    paid: float
    least: float
    tilt: float
    overpaid: float

    @classmethod
    def of(cls, mean: PromptMeans, log_p: NDArray[np.floating[Any]]) -> Paid:
        reward, paid = mean.j(log_p), mean.kl(mean.log_d, log_p)
        if reward <= mean.data_reward:
            return cls(reward, paid, np.nan, np.nan, mean.overpaid(log_p))
        law = mean.tilt_with_reward(mean.log_d, reward)
        tilt = np.nan if law is None else mean.kl(mean.log_d, law)
        return cls(reward, paid, mean.average_price(log_p), tilt, mean.overpaid(log_p))

    @property
    def times(self) -> float:
        """Paid over the least."""
        return self.paid / self.least

    @property
    def tilt_times(self) -> float:
        return self.tilt / self.least


@dataclass(frozen=True)
class MethodOutcome:
    """A method after one SFT. ``refused`` says why it was not trained; the numbers are missing then."""

    seed: int
    method: str
    statement: str = ""
    trained: Paid | None = None
    predicted: Paid | None = None
    distance: float | None = None
    eps: float | None = None
    steps: int = 0
    seconds: float = 0.0
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MethodOutcome:
        given = dict(values)
        for name in ("trained", "predicted"):
            given[name] = None if given[name] is None else Paid(**given[name])
        return cls(**given)


def outcomes(
    config: EnumeratedConfiguration,
    inputs: EnumeratedInputs,
    methods: Sequence[Method],
    kept: Sequence[MethodOutcome],
) -> Iterator[MethodOutcome]:
    """Load the model; then one after the other, as each is done. The SFT is that of ``config``.

    ``kept`` are the outcomes of this seed that an earlier call made.

    Raises:
        LanguageModelError: the model cannot be loaded, or its law not be enumerated.
        RunFolderError: what was kept starts from another SFT, as its eps says.
    """
    torch.use_deterministic_algorithms(True)
    trained = _Trained(config, inputs)
    for eps in (outcome.eps for outcome in kept if outcome.eps is not None):
        if not math.isclose(trained.eps, eps, rel_tol=SAME_EPS):
            raise RunFolderError(
                f"--out has outcomes of seed {config.seed} after an SFT with eps = KL(d||SFT) = {eps:.6g} nats, but "
                f"the SFT trained now has {trained.eps:.6g}: another version or machine trained it; choose another "
                "--out"
            )
    return map(trained.outcome, methods)


class _Trained:
    """The model of a seed, and the policies that it was trained to, each trained once."""

    def __init__(self, config: EnumeratedConfiguration, inputs: EnumeratedInputs) -> None:
        self.config, self.task, self.processes = config, inputs.task, Processes()
        self.language_model = model_of_run(config, inputs.texts)
        encoded = encoded_task(self.language_model, self.task)
        layout = choose_layout(self.language_model, encoded).layout
        precision = precision_of_run(config)
        if precision != torch.float64:
            check_precision(self.language_model, encoded, layout, precision)
        self.policy = EnumeratedLaw(self.language_model, encoded, layout, precision)
        self.start = self.language_model.state()
        self.found: dict[tuple[str, EnumeratedConfiguration], tuple[State, Law]] = {}
        self.natural: dict[Natural, tuple[NDArray[np.floating[Any]], int]] = {}

    @cached_property
    def eps(self) -> float:
        """KL(d||SFT), nats, of the SFT that every method starts from."""
        mean = PromptMeans(self.task.log_d, self.task.reward, self.config.beta, self.config.weight)
        return mean.kl(mean.log_d, self._result(STAGES["sft"], self.config, mean, {})[1])

    def outcome(self, method: Method) -> MethodOutcome:
        config, started = replace(self.config, **method.options), time.monotonic()
        mean = PromptMeans(self.task.log_d, self.task.reward, config.beta, config.weight)
        if method.natural is not None:
            return self._by_natural_gradient(method.name, method.natural, mean)
        *before, last = plan(config.order)
        try:
            laws: dict[str, Law] = {}
            for stage in before:
                laws[stage.name] = self._result(stage, config, mean, laws)[1]
            ending = ending_of(last, config, mean, laws)
            started = time.monotonic()
            _, log_p = self._result(last, config, mean, laws)
        except InputError as error:
            return MethodOutcome(self.config.seed, method.name, refused=str(error))
        return MethodOutcome(
            seed=self.config.seed,
            method=method.name,
            statement=ending.statement,
            trained=Paid.of(mean, log_p),
            predicted=Paid.of(mean, ending.log_p),
            distance=mean.kl(ending.log_p, log_p),
            eps=mean.kl(mean.log_d, laws["sft"]),
            steps=last.steps(config),
            seconds=round(time.monotonic() - started, 1),
        )

    def _by_natural_gradient(self, name: str, natural: Natural, mean: PromptMeans) -> MethodOutcome:
        """``steps`` counts cycles. The three places where the last one may end are made together."""
        started, (state, ref) = time.monotonic(), self._result(STAGES["sft"], self.config, mean, {})
        times = natural.rl_time, natural.share
        if natural not in self.natural:
            self.language_model.restore(state)
            count = settled_after(mean, *times)
            try:
                for after, law in cycles(self.policy, mean, *times, count):
                    self.natural[replace(natural, after=after)] = law, count
            except NotReached as error:
                return MethodOutcome(self.config.seed, name, refused=str(error))
        log_p, count = self.natural[natural]
        end = limit(mean, *times, natural.after)
        return MethodOutcome(
            seed=self.config.seed,
            method=name,
            statement="T6",
            trained=Paid.of(mean, log_p),
            predicted=Paid.of(mean, end),
            distance=mean.kl(end, log_p),
            eps=mean.kl(mean.log_d, ref),
            steps=count,
            seconds=round(time.monotonic() - started, 1),
        )

    def _result(
        self,
        stage: Stage,
        config: EnumeratedConfiguration,
        mean: PromptMeans,
        laws: Mapping[str, Law],
    ) -> tuple[State, Law]:
        """Parameters and law at the end of a stage, whose own start is trained already."""
        key = self._key(stage, config)
        if key not in self.found:
            start = self.start
            if stage.start != BASE:
                start, _ = self.found[self._key(STAGES[stage.start], config)]
            goal = goal_of(stage, config, mean, laws)
            self.language_model.restore(start)
            steps, rate = stage.steps(config), stage.rate(config)
            trainer = Trainer(self.policy, self.processes, goal, steps, rate)
            for _ in trainer.steps_left(checkpoint_every=steps):
                pass
            self.found[key] = self.language_model.state(), self.policy.measured()
        return self.found[key]

    def _key(
        self, stage: Stage, config: EnumeratedConfiguration
    ) -> tuple[str, EnumeratedConfiguration]:
        """A stage with the options that it depends on; the first SFT depends on none that methods change."""
        if stage.ref is None:
            return stage.name, self.config
        if stage.name == "rl":
            kept = {name: getattr(self.config, name) for name in OF_LAST_STAGES}
            return stage.name, replace(config, **kept)
        return stage.name, config
