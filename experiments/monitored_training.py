"""A training with TRL as one would write it, and the ten lines that forecast and watch it.

    python experiments/monitored_training.py                # a tiny Qwen3 on a CPU, in a minute
    python experiments/monitored_training.py --lora --beta 0.05 --max-overpayment 3

The task: add two digits, answered in words of a small vocabulary. The lines marked ``# +`` are all that is added to a
plain training: samples of the start policy, a forecast of what a reward costs at least, the monitor around the reward
function and among the callbacks. What it measures is in the trainer's own log, under ``coupling/``, for whatever
tracker reads it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from nondecoupling.forecast import forecast
from nondecoupling.lm import LanguageModel, collect, load_model, tiny_qwen3
from nondecoupling.monitor import CouplingMonitor

SUMS = [(a, b) for a in range(10) for b in range(10)]
PROMPTS = [f"{a} + {b} =" for a, b in SUMS]
ANSWERS = [f" {a + b}" for a, b in SUMS]
MAX_TOKENS = 3
TARGET = 0.5


def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """1 for the sum, 1/2 next to it."""
    answers = dict(zip(PROMPTS, ANSWERS, strict=True))
    return [
        graded(answers[prompt], completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def graded(answer: str, completion: str) -> float:
    said = completion.strip()
    if not said.isdigit():
        return 0.0
    return {0: 1.0, 1: 0.5}.get(abs(int(said) - int(answer)), 0.0)


def start_policy(folder: Path, steps: int) -> LanguageModel:
    """A tiny model after a little SFT: right now and then."""
    model = tiny_qwen3([*PROMPTS, *ANSWERS], seed=0)
    end = model.tokenizer.eos_token
    rows = [{"text": f"{x}{y}{end}"} for x, y in zip(PROMPTS, ANSWERS, strict=True)]
    trainer = SFTTrainer(
        model=model.model,
        args=SFTConfig(
            output_dir=str(folder / "sft"),
            max_steps=steps,
            per_device_train_batch_size=25,
            learning_rate=3e-3,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            seed=0,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=model.tokenizer,
    )
    trainer.train()
    trainer.save_model(str(folder / "start"))
    trainer.accelerator.wait_for_everyone()
    return load_model(folder / "start")


def main(arguments: Sequence[str] | None = None) -> CouplingMonitor:
    options = parser().parse_args(arguments)
    model = start_policy(options.out, options.sft_steps)
    file = options.out / "ref.parquet"
    settings = {"k": options.k, "reward_bounds": (0, 1), "max_tokens": MAX_TOKENS}  # +
    found = collect(model.model, model.tokenizer, PROMPTS, reward, out=file, **settings)  # +
    limits = {"loss_budget": options.loss_budget, "max_overpayment": options.max_overpayment}  # +
    monitor = CouplingMonitor(file, every=options.every, on_alarm="stop", **limits)  # +
    trainer = GRPOTrainer(
        model=model.model,
        reward_funcs=monitor.wrap(reward),  # + was: reward
        args=GRPOConfig(
            output_dir=str(options.out / "rl"),
            max_steps=options.steps,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=MAX_TOKENS,
            learning_rate=options.rate,
            beta=options.beta,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            seed=0,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=model.tokenizer,
        callbacks=[monitor.callback],  # +
        peft_config=LoraConfig(r=8, target_modules="all-linear") if options.lora else None,
    )
    price = forecast(found.samples()).at_reward(TARGET).price  # +
    trainer.accelerator.print(f"an average reward of {TARGET} costs at least {price}")  # +
    trainer.train()
    if trainer.accelerator.is_main_process:
        print(*monitor.readings, sep="\n")
        log = [line for line in trainer.state.log_history if "coupling/reward" in line]
        (options.out / "coupling.json").write_text(json.dumps(log, indent=2))
    return monitor


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--out", type=Path, default=Path("monitored"), help="a folder")
    made.add_argument("--k", type=int, default=32, help="responses to each prompt, before RL")
    made.add_argument("--sft-steps", type=int, default=60)
    made.add_argument("--steps", type=int, default=200, help="of RL")
    made.add_argument("--rate", type=float, default=1e-3, help="learning rate of RL")
    made.add_argument("--beta", type=float, default=0.0, help="weight of TRL's KL term")
    made.add_argument("--every", type=int, default=20, help="generations to a reading")
    made.add_argument("--loss-budget", type=float, help="nats per response")
    made.add_argument("--max-overpayment", type=float, help="a ratio")
    made.add_argument("--lora", action="store_true")
    return made


if __name__ == "__main__":
    main()
