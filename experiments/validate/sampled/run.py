"""A sampled run: all stages, training and then measuring each policy, with progress and the means to go on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from datasets import Dataset
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.text import Text

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.language_model import State
from nondecoupling.lm.tokens import PromptResponse, response_tokens, tokens_of_prompts
from validate.configuration import SampledConfiguration
from validate.errors import RunError
from validate.models import model_of_run
from validate.orders import BASE, Stage, plan
from validate.progress import progress_bars
from validate.run_folder import PLAN, TRAINING, RunFolder
from validate.sampled.chat import as_asked
from validate.sampled.digest import experts_of, plan_of
from validate.sampled.drawing import RESPONSES, DrawnResponse, drawn_responses
from validate.sampled.forecasting import forecast_rl_from
from validate.sampled.inputs import Inputs, inputs_of
from validate.sampled.lengths import check_lengths
from validate.sampled.measuring import Measurer, load_measurement
from validate.sampled.own_responses import trained_on
from validate.sampled.report import SampledReport, write_report
from validate.sampled.rewards import CheckedReward
from validate.sampled.task import SELF, Question
from validate.sampled.training import (
    StageTrainer,
    planned,
    rl_rows,
    rl_trainer,
    sft_rows,
    sft_trainer,
    train_to_the_end,
)
from validate.session import Session

__all__ = ["SampledRun", "train"]


@dataclass(frozen=True)
class SampledRun:
    """The protocol with the configuration of one run."""

    configuration: SampledConfiguration

    @property
    def planned(self) -> list[tuple[str, int]]:
        return planned(self.configuration)

    def train(self, session: Session) -> None:
        train(self.configuration, session)

    def write_report(self, folder: RunFolder) -> SampledReport:
        return write_report(self.configuration, folder)


def train(config: SampledConfiguration, session: Session) -> None:
    """Do what is left of the run; its measurements are complete afterwards."""
    folder, console, processes = session.folder, session.console, session.processes
    if processes.sharded:
        raise RunError(
            "the sampled protocol is data-parallel; launch it without FSDP, or use --protocol enumerated"
        )
    inputs = inputs_of(config, folder)
    with console.status(Text(f"Loading {config.model} ...")):
        language_model = model_of_run(config, inputs.task.texts)
    task = as_asked(inputs.task, config.prompt_format, language_model.tokenizer)
    inputs = replace(inputs, task=task)
    check_lengths(language_model, [*task.train, *task.held_out], config.max_tokens)
    session.begin(config, language_model.description)
    folder.record_inputs(inputs.digests)
    console.print(language_model.description, highlight=False)

    policies = _Policies(session, language_model)
    measurer = Measurer(config, session, language_model, task.evaluation, inputs.reward)
    if not policies.has(BASE):
        policies.save(BASE)
    stages = plan(config.order)
    if processes.is_first:
        folder.trained(config)
    with progress_bars(console) as progress:
        training = _Stages(config, session, inputs, policies, progress)
        total = sum(stage.steps(config) + measurer.lines for stage in stages)
        whole = progress.add_task("training steps and measurements", total=total)
        before = 0
        for stage in stages:
            steps = stage.steps(config)
            bar = progress.add_task(stage.title, total=steps + measurer.lines)

            def at(done: int, bar: TaskID = bar, before: int = before) -> None:
                progress.update(bar, completed=done)
                progress.update(whole, completed=before + done)

            if not policies.has(stage.name):
                place = folder.path / TRAINING / stage.name
                trainer = training.trainer(stage)
                started = time.monotonic()
                done = train_to_the_end(trainer, config, language_model, session, stage.name, at)
                folder.record_time(stage.name, done, time.monotonic() - started)
                policies.save(stage.name)
                if processes.is_first:
                    shutil.rmtree(place, ignore_errors=True)

            first = measurer.lines_done(stage.name)
            if first < measurer.lines:
                ref = stage.ref or stage.name
                states = policies.state(stage.name), policies.state(ref)
                started = time.monotonic()
                for line in measurer.measure(stage.name, ref, *states):
                    at(steps + line)
                seconds = time.monotonic() - started
                folder.record_time(f"measuring {stage.name}", measurer.lines - first, seconds)

            if stage.ref is None and processes.is_first:
                _plan(config, folder, inputs, measurer, stage.name, progress.console)
                place = measurer.place(stage.name)
                forecast_rl_from(stage.name, config, folder, inputs, place, progress.console)
            before += steps + measurer.lines
            at(steps + measurer.lines)
            progress.console.print(f"{stage.title}: trained and measured", highlight=False)
            progress.remove_task(bar)


class _Policies:
    """The trained parameters at the end of each stage, on disk and in the model; the same on every process."""

    def __init__(self, session: Session, language_model: LanguageModel) -> None:
        self.folder, self.processes = session.folder, session.processes
        self.language_model = language_model

    def has(self, policy: str) -> bool:
        """Whether it is on disk; all processes go by what the first one sees."""
        return self.processes.from_first(self.folder.has_policy(policy))

    def state(self, policy: str) -> State:
        device = self.language_model.device
        return {name: value.to(device) for name, value in self.folder.load_policy(policy).items()}

    def save(self, policy: str) -> None:
        """The model as it is now."""
        self.folder.save_policy(policy, self.language_model.state())
        self.processes.wait()


@dataclass(frozen=True)
class _Stages:
    """Makes the trainers of the stages of a run, with what each is trained on."""

    config: SampledConfiguration
    session: Session
    inputs: Inputs
    policies: _Policies
    progress: Progress

    def trainer(self, stage: Stage) -> StageTrainer:
        """The trainer of a stage with all its data; the model is where the stage starts."""
        language_model, steps = self.policies.language_model, stage.steps(self.config)
        place = self.session.folder.path / TRAINING / stage.name
        if stage.objective == "sft":
            questions = self.inputs.task.sft_draws(stage.name, steps * self.config.sft_batch)
            pairs = self._pairs(stage, questions)
            language_model.restore(self.policies.state(stage.start))
            processes = self.session.processes
            return sft_trainer(
                language_model, sft_rows(pairs), self.config, place, steps, processes
            )
        if stage.objective == "distil":
            rows = self._own_responses(stage)
            language_model.restore(self.policies.state(stage.start))
            return sft_trainer(
                language_model, rows, self.config, place, steps, self.session.processes
            )
        questions = self.inputs.task.rl_draws(stage.name, steps * self.config.rl_prompts)
        experts = self._beside_rl(stage, questions)
        language_model.restore(self.policies.state(stage.start))
        rows = rl_rows(questions, experts)
        return rl_trainer(
            language_model,
            rows,
            self.inputs.reward,
            self.config,
            place,
            steps,
            self.session.processes,
        )

    def _beside_rl(
        self, stage: Stage, questions: Sequence[Question]
    ) -> list[list[PromptResponse]] | None:
        """Experts' responses to each question: one for joint training, a group of them for alternation."""
        each = {"joint": 1, "alternate": self.config.generations}.get(stage.objective)
        if each is None:
            return None
        asked = [question for question in questions for _ in range(each)]
        pairs = self._pairs(stage, asked)
        return [pairs[row : row + each] for row in range(0, len(pairs), each)]

    def _pairs(self, stage: Stage, questions: Sequence[Question]) -> list[PromptResponse]:
        """Tokens of each question and of y ~ d."""
        responses = self._responses(stage, questions)
        texts = [question.text for question in questions]
        prompts = tokens_of_prompts(self.policies.language_model.tokenizer, texts)
        return [PromptResponse(x, y) for x, y in zip(prompts, responses, strict=True)]

    def _responses(self, stage: Stage, questions: Sequence[Question]) -> list[list[int]]:
        """y ~ d for each question: an expert's response, or one of ref's own for self-distilled data."""
        if self.config.self_distilled and stage.ref is not None:
            drawn = self._of_ref(stage, questions, None)
            return [one.tokens for one in drawn]
        texts = self.inputs.task.expert_draws(stage.name, questions)
        return [response_tokens(self.policies.language_model.tokenizer, text) for text in texts]

    def _own_responses(self, stage: Stage) -> Dataset:
        """Weighted responses of ref, in training order, to the prompts that RL would see: a group of them for each."""
        generations, reward = self.config.generations, self.inputs.reward
        questions = [
            question
            for question in self.inputs.task.rl_draws(
                "rl", self.config.rl_steps * self.config.rl_prompts
            )
            for _ in range(generations)
        ]
        drawn = self._of_ref(stage, questions, reward)
        rewards = np.reshape([one.reward for one in drawn], (-1, generations))
        places, weights = trained_on(self.config, rewards)
        rows = (places + generations * np.arange(len(places))[:, None]).ravel()
        prompts = tokens_of_prompts(
            self.policies.language_model.tokenizer, [questions[row].text for row in rows]
        )
        pairs = [PromptResponse(x, drawn[row].tokens) for x, row in zip(prompts, rows, strict=True)]
        return sft_rows(pairs, weights.ravel().tolist())

    def _of_ref(
        self, stage: Stage, questions: Sequence[Question], reward: CheckedReward | None
    ) -> list[DrawnResponse]:
        """A response of the stage's ref to each question."""
        assert stage.ref is not None
        self.policies.language_model.restore(self.policies.state(stage.ref))
        place = self.session.folder.path / TRAINING / stage.name / RESPONSES
        number = self.inputs.task.number(SELF, stage.name)
        bar = self.progress.add_task(f"{stage.title}: responses of ref", total=len(questions))
        drawn = drawn_responses(
            place,
            self.session.processes,
            self.policies.language_model,
            questions,
            self.config.max_tokens,
            number,
            reward,
            lambda done: self.progress.update(bar, completed=done),
        )
        self.progress.remove_task(bar)
        return drawn


def _plan(
    config: SampledConfiguration,
    folder: RunFolder,
    inputs: Inputs,
    measurer: Measurer,
    ref: str,
    console: Console,
) -> None:
    """S8: before RL starts from this ref, what the pilot prompts say about the sample sizes."""
    name = f"{PLAN}{ref}.json"
    if (folder.path / name).exists():
        return
    pilot = config.pilot_prompts
    whole = load_measurement(measurer.place(ref), len(inputs.task.evaluation))
    experts = experts_of(config, inputs.task, inputs.reward, whole).part(0, pilot)
    plans = plan_of(config, experts, ref, whole.part(0, pilot))
    folder.write_json(name, {"plans": [asdict(line) for line in plans]})
    for line in plans:
        console.print(
            f"planned from {ref}: {line.quantity} {line.effect:.3g}, which {line.needed:.4g} prompts "
            f"would confirm; {config.eval_prompts} are used",
            highlight=False,
        )
