"""Training of all stages of a run, with checkpoints, records and progress bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from validate.checks import World, measures
from validate.data import Task, embedded_task
from validate.enumerate import Enumeration, law_one_at_a_time
from validate.models import LanguageModel, load_model
from validate.presets import TINY
from validate.run_folder import RunFolder
from validate.stages import Stage, Trainer, TrainingFailed, plan
from validate.tolerances import enumeration_tolerance

__all__ = ["train"]


def train(folder: RunFolder, console: Console, *, resumed: bool) -> None:
    """Train what is left of the run in ``folder``; its metrics are complete afterwards."""
    if folder.is_complete():
        console.print(f"{folder.path} is complete; nothing left to train")
        return
    torch.use_deterministic_algorithms(True)
    if folder.config["model"] == TINY:
        torch.set_num_threads(1)  # so small a model is several times slower on two
    config = folder.config
    with console.status(f"Loading {config['model']} ..."):
        language_model = load_model(config["model"], config["seed"])
    folder.begin(resumed=resumed)
    run = _Run(folder, console, language_model)
    run.start()
    run.train()


class _Run:
    def __init__(self, folder: RunFolder, console: Console, language_model: LanguageModel) -> None:
        self.folder, self.console, self.language_model = folder, console, language_model
        self.config = folder.config
        self.task: Task = embedded_task(self.config["prompts"])
        self.world = World(self.task, self.config["beta"])
        self.enumeration = Enumeration(language_model, self.task)
        self.stages = plan(self.config["order"])
        self.base = language_model.state()

    def start(self) -> None:
        """Find the place to go on from, or record the untrained model."""
        self.checkpoint = self.folder.load_checkpoint()
        if self.checkpoint is None:
            guard = self._guard()
            self._record("base", 0, None, model=self.language_model.description, **guard)
            self.console.print(self.language_model.description, highlight=False)
        else:
            stage = self.stages[self.checkpoint["stage"]]
            place = f"step {self.checkpoint['trainer']['step']} of {stage.title}"
            self.console.print(f"Going on in {self.folder.path} from {place}", highlight=False)

    def _guard(self) -> dict[str, float]:
        """The enumeration against the model's own logits, one sequence at a time, on one prompt."""
        law = self.enumeration.measured()[0]
        plain = law_one_at_a_time(self.language_model, self.task.prompts[0])
        difference = float(np.abs(law[:-1] - plain).max())
        layers = self.language_model.causal.config.num_hidden_layers
        eps = torch.finfo(self.language_model.head.weight.dtype).eps
        allowed = enumeration_tolerance(law, layers, eps)
        if not difference <= allowed:
            raise TrainingFailed(
                f"the enumeration differs from the logits of {self.config['model']} by {difference:.3g} "
                f"nats (allowed {allowed:.3g}): this architecture maps hidden states to logits, or "
                "uses attention masks, in a way that is not supported; choose another --model"
            )
        return {"enumeration_difference": difference, "enumeration_tolerance": allowed}

    def train(self) -> None:
        lengths = [self._steps(stage) for stage in self.stages]
        first, step = 0, 0
        if self.checkpoint is not None:
            first, step = self.checkpoint["stage"], self.checkpoint["trainer"]["step"]
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            whole = progress.add_task("all stages", total=sum(lengths))
            progress.update(whole, completed=sum(lengths[:first]) + step)
            for index in range(first, len(self.stages)):
                self._train_stage(index, progress, whole)

    def _steps(self, stage: Stage) -> int:
        if stage.name == "warm-up":
            return self.config["warmup_steps"]
        return self.config["sft_steps" if stage.objective == "sft" else "rl_steps"]

    def _train_stage(self, index: int, progress: Progress, whole: Any) -> None:
        stage = self.stages[index]
        log_ref = self._ref_of(index)
        going_on = self.checkpoint is not None and self.checkpoint["stage"] == index
        if stage.start == "base" and not going_on:
            self.language_model.restore(self.base)
        trainer = Trainer(
            self.language_model,
            self.enumeration,
            self.task,
            self.config["beta"],
            stage.objective,
            None if log_ref is None else torch.from_numpy(log_ref).to(self.language_model.device),
            self._steps(stage),
            self.config["sft_rate" if stage.objective == "sft" else "rl_rate"],
        )
        if going_on:
            assert self.checkpoint is not None
            trainer.load_state_dict(self.checkpoint["trainer"])
        bar = progress.add_task(stage.title, total=trainer.steps, completed=trainer.step)
        for due in trainer.steps_left(self.config["checkpoint_every"]):
            progress.advance(bar)
            progress.advance(whole)
            if due:
                line = self._record(stage.name, trainer.step, log_ref)
                self.folder.save_checkpoint({"stage": index, "trainer": trainer.state_dict()})
                progress.console.print(_describe(stage, line), highlight=False)
        progress.remove_task(bar)

    def _ref_of(self, index: int) -> np.ndarray | None:
        """The law at the start of the RL stage that this stage is, or follows; None before RL."""
        while index >= 0 and self.stages[index].objective == "sft":
            if self.stages[index].start == "base":
                return None
            index -= 1
        before = self.stages[index - 1].name
        return np.array([r["log_p"] for r in self.folder.records() if r["stage"] == before][-1])

    def _record(
        self, stage: str, step: int, log_ref: np.ndarray | None, **more: Any
    ) -> dict[str, Any]:
        log_p = self.enumeration.measured()
        if not np.isfinite(log_p).all():
            raise TrainingFailed(
                f"the policy after step {step} of {stage} has a probability that is 0 or not a number; "
                "lower the learning rate"
            )
        line = {"stage": stage, "step": step, **measures(self.world, log_p, log_ref), **more}
        self.folder.record({**line, "log_p": log_p.tolist()})
        return line


def _describe(stage: Stage, line: dict[str, Any]) -> str:
    text = f"{stage.title:22s} step {line['step']:4d}  SFT loss {line['sft_loss']:.4f}"
    text += f"  eps {line['eps']:.2e}  J {line['reward']:.4f}"
    if line["kl_to_tilt"] is not None:
        text += f"  KL to tilt {line['kl_to_tilt']:.2e}"
    return text
