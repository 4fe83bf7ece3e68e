"""An enumerated run: all stages, with checkpoints, records and progress bars."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from rich.text import Text
from torch import nn

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.enumerated_law import EnumeratedLaw, check_precision, choose_layout
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tries import Candidates, encode
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.endings import must_end
from validate.enumerated.forecasting import forecast_rl
from validate.enumerated.head_precision import about_precision, precision_of_run
from validate.enumerated.inputs import inputs_of
from validate.enumerated.means import PromptMeans
from validate.enumerated.measures import Measures, measures_of
from validate.enumerated.report import EnumeratedReport, write_report
from validate.enumerated.task import EnumeratedTask
from validate.enumerated.training import (
    Trainer,
    TrainerState,
    TrainingFailed,
    goal_of,
    planned,
)
from validate.errors import InputError
from validate.models import model_of_run
from validate.orders import BASE, Stage, plan
from validate.progress import progress_bars
from validate.run_folder import RunFolder
from validate.session import Session

__all__ = ["EnumeratedRun", "encoded_task", "train"]


@dataclass(frozen=True)
class EnumeratedRun:
    """The protocol with the configuration of one run."""

    configuration: EnumeratedConfiguration

    @property
    def planned(self) -> list[tuple[str, int]]:
        return planned(self.configuration)

    def train(self, session: Session) -> None:
        train(self.configuration, session)

    def write_report(self, folder: RunFolder) -> EnumeratedReport:
        return write_report(self.configuration, folder)


def train(config: EnumeratedConfiguration, session: Session) -> None:
    """Train what is left of the run; its metrics are complete afterwards."""
    folder, console, processes = session.folder, session.console, session.processes
    stages = plan(config.order)
    trained = processes.from_first(folder.trained(config))
    if trained == len(stages):
        return  # the last stage was trained: only its report is missing
    torch.use_deterministic_algorithms(True)
    inputs = inputs_of(config)
    folder.must_have(inputs.digests, config)
    task = inputs.task
    must_end(config, task.reward)
    experts = PromptMeans(task.log_d, task.reward, config.beta, config.weight)
    with console.status(Text(f"Loading {config.model} ...")):
        language_model = model_of_run(config, inputs.texts)
    encoded = encoded_task(language_model, task)
    _check_shares(processes, task)
    session.begin(config, language_model.description)
    folder.record_inputs(inputs.digests)

    chosen = choose_layout(language_model, encoded)
    about: dict[str, str | float] = {
        "model": language_model.description,
        "layout": chosen.layout,
        "enumeration_difference": chosen.difference,
        "enumeration_tolerance": chosen.allowed,
    }
    precision = precision_of_run(config)
    if precision != torch.float64:
        checked = check_precision(language_model, encoded, chosen.layout, precision)
        about |= about_precision(checked)
    law = EnumeratedLaw(language_model, processes.share(encoded), chosen.layout, precision)
    policy = processes.distribute(law, language_model.layers)

    # log p of the newest checkpoint of every stage: what the records hold, on every process.
    laws: dict[str, NDArray[np.float64]] = {}
    checkpoint = _newest_checkpoint(config, folder, processes)
    first = trained if checkpoint is None else checkpoint["stage"]
    if checkpoint is None and not processes.from_first(folder.has_policy(BASE)):
        folder.forget_records_from(BASE, planned(config))
        laws[BASE] = _law_of(policy, processes, BASE, 0)
        measured = _with_its_mass(measures_of(experts, laws[BASE], None), law, processes)
        line = {"stage": BASE, "step": 0, **asdict(measured), **about}
        folder.record({**line, "log_p": laws[BASE].tolist()})
        folder.save_policy(BASE, processes.trained_state(policy))
        console.print(language_model.description, highlight=False)
    else:
        if checkpoint is None:
            folder.forget_records_from(stages[first].name, planned(config))
        mine = folder.records(planned(config)) if processes.is_first else None
        records = processes.from_first(mine)
        laws = {line["stage"]: np.array(line["log_p"]) for line in records}
        step = 0 if checkpoint is None else checkpoint["trainer"]["step"]
        place = f"step {step} of {stages[first].title}"
        console.print(f"Going on in {folder.path} from {place}", highlight=False)

    with progress_bars(console) as progress:
        whole = progress.add_task("all stages", total=sum(s.steps(config) for s in stages))
        progress.advance(whole, sum(s.steps(config) for s in stages[:first]))
        for index, stage in list(enumerate(stages))[first:]:
            log_ref = None if stage.ref is None else laws[stage.ref]
            own = log_ref if config.self_distilled else None
            mean = experts if own is None else replace(experts, log_d=own)
            rate = stage.rate(config)
            goal = goal_of(stage, config, mean, laws)
            trainer = Trainer(policy, processes, goal, stage.steps(config), rate)
            if checkpoint is not None and checkpoint["stage"] == index:
                trainer.load_state_dict(checkpoint["trainer"])
            else:
                start = folder.load_policy(stage.start) if processes.is_first else {}
                processes.set_trained_state(policy, start)
            if stage.objective == "rl" and trainer.step == 0:
                assert log_ref is not None
                forecast_rl(config, folder, task, stage, log_ref, progress.console)
            bar = progress.add_task(stage.title, total=trainer.steps, completed=trainer.step)
            progress.advance(whole, trainer.step)
            started, first_step = time.monotonic(), trainer.step
            for due in trainer.steps_left(config.checkpoint_every):
                progress.advance(bar)
                progress.advance(whole)
                if due:
                    laws[stage.name] = _law_of(policy, processes, stage.name, trainer.step)
                    measured = measures_of(mean, laws[stage.name], log_ref)
                    measured = _with_its_mass(measured, law, processes)
                    line = {"stage": stage.name, "step": trainer.step, **asdict(measured)}
                    folder.record({**line, "log_p": laws[stage.name].tolist()})
                    state = trainer.state_dict()
                    if trainer.step == trainer.steps:
                        folder.save_policy(stage.name, processes.trained_state(policy))
                    folder.save_checkpoint({"stage": index, "trainer": state})
                    text = _describe(stage, trainer.step, measured)
                    progress.console.print(text, highlight=False)
            progress.remove_task(bar)
            seconds = time.monotonic() - started
            folder.record_time(stage.name, trainer.step - first_step, seconds)


class _Checkpoint(TypedDict):
    """Where a run goes on: the index of a stage and the state of its trainer."""

    stage: int
    trainer: TrainerState


def encoded_task(language_model: LanguageModel, task: EnumeratedTask) -> list[Candidates]:
    """The prompts and their responses as tokens.

    Raises:
        ResponseError: a response cannot be told apart, or has a part that the tokenizer does not know.
        InputError: prompts with their responses are longer than the model's context.
    """
    encoded = [encode(language_model.tokenizer, p.text, p.responses) for p in task.prompts]
    sizes = [len(one.prompt) + max(map(len, one.responses)) for one in encoded]
    context = language_model.context
    if context is not None and max(sizes) > context:
        long = [p.text for p, size in zip(task.prompts, sizes, strict=True) if size > context]
        raise InputError(
            f"{len(long)} prompts with their longest responses have up to {max(sizes)} tokens, more than the model's "
            f"context of {context}; the first is {long[0]!r}: shorten or leave them out"
        )
    return encoded


def _check_shares(processes: Processes, task: EnumeratedTask) -> None:
    if processes.count > len(task.prompts):
        raise TrainingFailed(
            f"{processes.count} processes share {len(task.prompts)} prompts; each needs at least "
            "one: raise --prompts or launch fewer"
        )


def _newest_checkpoint(
    config: EnumeratedConfiguration, folder: RunFolder, processes: Processes
) -> _Checkpoint | None:
    """The newest checkpoint; its tensors only on the first process, which hands them on when they are loaded."""
    mine: _Checkpoint | None = folder.load_checkpoint(planned(config))
    place: _Checkpoint | None = None
    if mine is not None:
        bare: TrainerState = {**mine["trainer"], "parameters": {}, "optimizer": {}}
        place = {"stage": mine["stage"], "trainer": bare}
    place = processes.from_first(place)
    return place if mine is None else mine


def _law_of(policy: nn.Module, processes: Processes, stage: str, step: int) -> NDArray[np.float64]:
    """log p of all prompts, on every process.

    Raises:
        TrainingFailed: a probability has become 0 or not a number.
    """
    with torch.no_grad():
        log_p = processes.together(policy().cpu().numpy())
    if not np.isfinite(log_p).all():
        raise TrainingFailed(
            f"the policy after step {step} of {stage} has a probability that is 0 or not a number; "
            "lower the learning rate"
        )
    return log_p


def _with_its_mass(measured: Measures, law: EnumeratedLaw, processes: Processes) -> Measures:
    """``measured`` with |sum p - 1| from before the law was divided by its sum, where it was."""
    if law.log_mass is None:
        return measured
    log_mass = processes.together(law.log_mass.cpu().numpy())
    return replace(measured, mass_error=float(np.abs(np.expm1(log_mass)).max()))


def _describe(stage: Stage, step: int, measured: Measures) -> str:
    text = f"{stage.title:22s} step {step:4d}  SFT loss {measured.sft_loss:.4f}"
    text += f"  eps {measured.eps:.2e}  J {measured.reward:.4f}"
    if measured.kl_to_tilt is not None:
        text += f"  KL to tilt {measured.kl_to_tilt:.2e}"
    return text
