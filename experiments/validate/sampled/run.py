"""All stages of a sampled run: training, then measuring each policy, with progress and the means to go on."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from typing import Any

from rich.console import Console

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.sampling import draw
from nondecoupling.lm.tokens import PromptResponse, prompt_tokens, response_tokens
from validate.errors import RunError
from validate.models import model_of_run
from validate.orders import BASE, Stage, plan
from validate.progress import progress_bars
from validate.run_folder import RunFolder
from validate.sampled.digest import plan_of, world_of
from validate.sampled.inputs import inputs_of
from validate.sampled.lengths import check_lengths
from validate.sampled.measuring import Measurer, load_measurement
from validate.sampled.rewards import Reward, last_label
from validate.sampled.task import SELF, Question, Task
from validate.sampled.training import rl_rows, rl_trainer, sft_rows, sft_trainer, train_to_the_end

__all__ = ["MEASUREMENTS", "PLAN", "train"]

MEASUREMENTS, TRAINING, PLAN = "measurements", "training", "plan-"


def train(folder: RunFolder, console: Console, processes: Processes, *, resumed: bool) -> None:
    """Do what is left of the run in ``folder``; its measurements are complete afterwards."""
    config = folder.config
    if processes.sharded:
        raise RunError(
            "the sampled protocol is data-parallel; launch it without FSDP, or use --protocol enumerated"
        )
    inputs = inputs_of(folder)
    reward, task = inputs.reward, inputs.task
    with console.status(f"Loading {config['model']} ..."):
        language_model = model_of_run(
            config["model"], config["seed"], task.texts, config["training"]
        )
    check_lengths(language_model, [*task.train, *task.held_out], config["max_tokens"])
    folder.begin(resumed=resumed, processes=processes.describe(), model=language_model.description)
    inputs.record(folder)
    console.print(language_model.description, highlight=False)
    _Run(folder, console, processes, task, reward, language_model).work()


class _Run:
    def __init__(
        self,
        folder: RunFolder,
        console: Console,
        processes: Processes,
        task: Task,
        reward: Reward,
        language_model: LanguageModel,
    ) -> None:
        self.folder, self.console, self.processes = folder, console, processes
        self.config, self.task, self.reward = folder.config, task, reward
        self.language_model, self.tokenizer = language_model, language_model.tokenizer
        self.stages = plan(self.config["order"])
        self.measurer = Measurer(
            language_model,
            self.config["max_tokens"],
            task.evaluation,
            (reward, Reward("last-label", last_label)),
            self.config["responses"],
            self.config["seed"],
            processes,
            folder.path / MEASUREMENTS,
        )
        if not self._has(BASE):
            self._save(BASE)

    def work(self) -> None:
        with progress_bars(self.console) as progress:
            lines = self.measurer.lines
            total = sum(stage.steps(self.config) + lines for stage in self.stages)
            whole = progress.add_task("training steps and measurements", total=total)
            before = 0
            for stage in self.stages:
                bar = progress.add_task(stage.title, total=stage.steps(self.config) + lines)

                def at(done: int, bar: Any = bar, before: int = before) -> None:
                    progress.update(bar, completed=done)
                    progress.update(whole, completed=before + done)

                if not self._has(stage.name):
                    self._train(stage, at)
                self._measure(stage, at)
                if stage.ref is None:
                    self._plan(stage.name, progress.console)
                before += stage.steps(self.config) + lines
                at(stage.steps(self.config) + lines)
                progress.console.print(f"{stage.title}: trained and measured", highlight=False)
                progress.remove_task(bar)

    def _has(self, policy: str) -> bool:
        """Whether a policy is on disk; all processes go by what the first one sees."""
        return self.processes.from_first(self.folder.has_policy(policy))

    def _plan(self, ref: str, console: Console) -> None:
        """S8: before RL starts from this ref, what the pilot prompts say about the sample sizes."""
        name = f"{PLAN}{ref}.json"
        if not self.processes.is_first or (self.folder.path / name).exists():
            return
        pilot, whole = self.config["pilot_prompts"], load_measurement(self.measurer.place(ref))
        world = world_of(self.config, self.task, self.reward, whole).part(0, pilot)
        plans = plan_of(self.config, world, whole.part(0, pilot))
        self.folder.write_json(name, [asdict(line) for line in plans])
        for line in plans:
            console.print(
                f"planned from {ref}: {line.quantity} {line.effect:.3g}, which {line.needed:.4g} prompts "
                f"would confirm; {self.config['eval_prompts']} are used",
                highlight=False,
            )

    def _state(self, policy: str) -> State:
        """The trained parameters of a policy, on every process."""
        device = self.language_model.device
        return {name: value.to(device) for name, value in self.folder.load_policy(policy).items()}

    def _save(self, policy: str) -> None:
        self.folder.save_policy(policy, self.language_model.state())
        self.processes.wait()

    def _train(self, stage: Stage, at: Any) -> None:
        place = self.folder.path / TRAINING / stage.name
        steps = stage.steps(self.config)
        if stage.objective == "sft":
            pairs = self._sft_pairs(stage, steps * self.config["sft_batch"])
            self.language_model.restore(self._state(stage.start))
            rows = sft_rows(pairs)
            trainer = sft_trainer(
                self.language_model, rows, self.config, place, steps, self.processes
            )
        else:
            questions = self.task.rl_draws(stage.name, steps * self.config["rl_prompts"])
            experts = self._responses(stage, questions) if stage.objective == "joint" else None
            self.language_model.restore(self._state(stage.start))
            rows = rl_rows(questions, experts)
            trainer = rl_trainer(
                self.language_model, rows, self.reward, self.config, place, steps, self.processes
            )
        started = time.monotonic()
        done = train_to_the_end(
            trainer, self.language_model, self.folder, self.processes, stage.name, at
        )
        self.folder.record_time(stage.name, done, time.monotonic() - started)
        self._save(stage.name)
        if self.processes.is_first:
            shutil.rmtree(place, ignore_errors=True)

    def _sft_pairs(self, stage: Stage, count: int) -> list[PromptResponse]:
        questions = self.task.sft_draws(stage.name, count)
        responses = self._responses(stage, questions)
        prompts = (prompt_tokens(self.tokenizer, q.text) for q in questions)
        return [PromptResponse(x, y) for x, y in zip(prompts, responses, strict=True)]

    def _responses(self, stage: Stage, questions: list[Question]) -> list[list[int]]:
        """y ~ d for each question: an expert's response, or one of ref's own for self-distilled data."""
        if self.config["data_law"] == "self" and stage.ref is not None:
            self.language_model.restore(self._state(stage.ref))
            prompts = [prompt_tokens(self.tokenizer, q.text) for q in questions]
            return draw(
                self.language_model,
                prompts,
                self.config["max_tokens"],
                self.task.number(SELF, stage.name),
            )
        texts = self.task.expert_draws(stage.name, questions)
        return [response_tokens(self.tokenizer, text) for text in texts]

    def _measure(self, stage: Stage, at: Any) -> None:
        ref, first = stage.ref or stage.name, self.measurer.lines_done(stage.name)
        if first == self.measurer.lines:
            return
        started, line = time.monotonic(), first

        def on_line() -> None:
            nonlocal line
            line += 1
            at(stage.steps(self.config) + line)

        self.measurer.measure(stage.name, ref, self._state(stage.name), self._state(ref), on_line)
        seconds = time.monotonic() - started
        self.folder.record_time(f"measuring {stage.name}", line - first, seconds)
