"""Training of all stages of an enumerated run, with checkpoints, records and progress bars."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.enumerated_law import EnumeratedLaw, choose_layout
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tries import encode
from validate.enumerated.facts import Task, embedded_task, vocabulary_texts
from validate.enumerated.training import Goal, Trainer, TrainingFailed
from validate.enumerated.world import World, measures
from validate.models import model_of_run
from validate.orders import BASE, Stage, plan
from validate.progress import progress_bars
from validate.run_folder import RunFolder

__all__ = ["train"]


def train(folder: RunFolder, console: Console, processes: Processes, *, resumed: bool) -> None:
    """Train what is left of the run in ``folder``; its metrics are complete afterwards."""
    config = folder.config
    if processes.from_first(folder.has_policy(plan(config["order"])[-1].name)):
        return  # the last stage was trained: only its report is missing
    torch.use_deterministic_algorithms(True)
    task = embedded_task(config["prompts"], config["reward"])
    with console.status(f"Loading {config['model']} ..."):
        language_model = model_of_run(
            config["model"], config["seed"], vocabulary_texts(), config["training"]
        )
    folder.begin(resumed=resumed, processes=processes.describe(), model=language_model.description)
    run = _Run(folder, console, processes, language_model, task)
    run.start()
    run.train()


class _Run:
    def __init__(
        self,
        folder: RunFolder,
        console: Console,
        processes: Processes,
        language_model: LanguageModel,
        task: Task,
    ) -> None:
        self.folder, self.console, self.processes = folder, console, processes
        self.language_model, self.config = language_model, folder.config
        self.task = task
        if processes.count > len(self.task.prompts):
            raise TrainingFailed(
                f"{processes.count} processes share {len(self.task.prompts)} prompts; each needs at least "
                "one: raise --prompts or launch fewer"
            )
        self.stages = plan(self.config["order"])
        # log p of every checkpoint, in order: what the records hold, on every process.
        self.laws: dict[str, np.ndarray] = {}

    def start(self) -> None:
        """Find the place to go on from, or record the untrained model."""
        tokenizer = self.language_model.tokenizer
        encoded = [encode(tokenizer, p.text, p.responses) for p in self.task.prompts]
        chosen = choose_layout(self.language_model, encoded[0])
        mine = self.processes.share(encoded)
        policy = EnumeratedLaw(self.language_model, mine, chosen.layout)
        self.policy = self.processes.distribute(policy, self.language_model.layers)
        self.checkpoint = self._found_checkpoint()
        if self.checkpoint is None:
            self._record(
                BASE,
                0,
                self._world(None),
                model=self.language_model.description,
                layout=chosen.layout,
                enumeration_difference=chosen.difference,
                enumeration_tolerance=chosen.allowed,
            )
            self._save_policy(BASE)
            self.console.print(self.language_model.description, highlight=False)
        else:
            records = self.processes.from_first(self.folder.records())
            self.laws = {line["stage"]: np.array(line["log_p"]) for line in records}
            stage = self.stages[self.checkpoint["stage"]]
            place = f"step {self.checkpoint['trainer']['step']} of {stage.title}"
            self.console.print(f"Going on in {self.folder.path} from {place}", highlight=False)

    def _found_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint; its tensors only on the first process, which hands them on when they are loaded."""
        mine = self.folder.load_checkpoint()
        place = None
        if mine is not None:
            trainer = {**mine["trainer"], "parameters": {}, "optimizer": {}}
            place = {"stage": mine["stage"], "trainer": trainer}
        place = self.processes.from_first(place)
        return place if mine is None else mine

    def train(self) -> None:
        lengths = [stage.steps(self.config) for stage in self.stages]
        first, step = 0, 0
        if self.checkpoint is not None:
            first, step = self.checkpoint["stage"], self.checkpoint["trainer"]["step"]
        with progress_bars(self.console) as progress:
            whole = progress.add_task("all stages", total=sum(lengths))
            progress.update(whole, completed=sum(lengths[:first]) + step)
            for index in range(first, len(self.stages)):
                self._train_stage(index, progress, whole)

    def _world(self, stage: Stage | None) -> World:
        """What the stage is measured against: the experts' law, or that of ref for self-distilled data."""
        own = stage is not None and stage.ref and self.config["data_law"] == "self"
        log_d = self.laws[stage.ref] if own else self.task.log_d
        return World(log_d, self.task.reward, self.config["beta"], self.config["weight"])

    def _train_stage(self, index: int, progress: Progress, whole: Any) -> None:
        stage = self.stages[index]
        world, log_ref = self._world(stage), self.laws.get(stage.ref)
        goal = Goal(stage.objective, world.log_d, log_ref, world.reward, world.beta, world.weight)
        rate = self.config["sft_rate" if stage.objective == "sft" else "rl_rate"]
        trainer = Trainer(self.policy, self.processes, goal, stage.steps(self.config), rate)
        if self.checkpoint is not None and self.checkpoint["stage"] == index:
            trainer.load_state_dict(self.checkpoint["trainer"])
        else:
            state = self.folder.load_policy(stage.start) if self.processes.is_first else {}
            self.processes.set_trained_state(self.policy, state)
        bar = progress.add_task(stage.title, total=trainer.steps, completed=trainer.step)
        started, first_step = time.monotonic(), trainer.step
        for due in trainer.steps_left(self.config["checkpoint_every"]):
            progress.advance(bar)
            progress.advance(whole)
            if due:
                line = self._record(stage.name, trainer.step, world, log_ref)
                state = trainer.state_dict()
                if trainer.step == trainer.steps:
                    self._save_policy(stage.name)
                self.folder.save_checkpoint({"stage": index, "trainer": state})
                progress.console.print(_describe(stage, line), highlight=False)
        progress.remove_task(bar)
        seconds = time.monotonic() - started
        self.folder.record_time(stage.name, trainer.step - first_step, seconds)

    def _save_policy(self, name: str) -> None:
        self.folder.save_policy(name, self.processes.trained_state(self.policy))

    def _record(
        self,
        stage: str,
        step: int,
        world: World,
        log_ref: np.ndarray | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        with torch.no_grad():
            log_p = self.processes.together(self.policy().cpu().numpy())
        if not np.isfinite(log_p).all():
            raise TrainingFailed(
                f"the policy after step {step} of {stage} has a probability that is 0 or not a number; "
                "lower the learning rate"
            )
        self.laws[stage] = log_p
        line = {"stage": stage, "step": step, **measures(world, log_p, log_ref), **more}
        self.folder.record({**line, "log_p": log_p.tolist()})
        return line


def _describe(stage: Stage, line: dict[str, Any]) -> str:
    text = f"{stage.title:22s} step {line['step']:4d}  SFT loss {line['sft_loss']:.4f}"
    text += f"  eps {line['eps']:.2e}  J {line['reward']:.4f}"
    if line["kl_to_tilt"] is not None:
        text += f"  KL to tilt {line['kl_to_tilt']:.2e}"
    return text
