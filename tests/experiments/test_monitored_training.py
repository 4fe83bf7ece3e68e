"""The example of a watched training, in real trainings with TRL at a tiny size: about a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from monitored_training import MAX_TOKENS, PROMPTS, main, reward
from trl import RLOOConfig, RLOOTrainer

from nondecoupling.lm import collect, load_model
from nondecoupling.monitor import CouplingMonitor

pytestmark = pytest.mark.slow  # trainings with TRL
SMALL = ["--sft-steps", "30", "--steps", "6", "--every", "3", "--k", "8"]


@pytest.fixture(scope="module")
def grpo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpo")
    return folder, main([*SMALL, "--beta", "0.05", "--out", str(folder)])


def test_the_trainers_log_has_what_the_monitor_read(grpo):
    folder, monitor = grpo
    log = json.loads((folder / "coupling.json").read_text())
    assert len(log) == len(monitor.readings) == 2
    for line, reading in zip(log, monitor.readings, strict=True):
        for name, value in reading.metrics().items():
            assert line[name] == pytest.approx(value, rel=1e-5)
    last = monitor.readings[-1]
    assert last.sft_loss_rise.value > 0 and last.kl_per_response > 0
    assert last.proved_gap is not None and last.reward.low < last.reward.value


def test_ten_lines_forecast_and_watch_a_plain_training():
    lines = Path(sys.modules["monitored_training"].__file__).read_text().splitlines()
    added = [line for line in lines if "# +" in line and "``" not in line]
    assert 0 < len(added) <= 10
    for call in ("forecast(", "monitor.wrap(", "monitor.callback"):
        assert any(call in line for line in added)


def test_lora_is_watched_too(tmp_path):
    monitor = main([*SMALL, "--lora", "--out", str(tmp_path)])
    assert len(monitor.readings) == 2
    assert monitor.readings[-1].kl_per_response != 0


def test_the_run_stops_where_a_budget_is_crossed(tmp_path):
    options = ["--sft-steps", "30", "--steps", "60", "--every", "10", "--k", "8", "--rate", "0.01"]
    monitor = main([*options, "--loss-budget", "0.05", "--out", str(tmp_path)])
    assert monitor.readings[-1].alarms and monitor.readings[-1].sft_loss_rise.low > 0.05
    assert all(not reading.alarms for reading in monitor.readings[:-1])
    assert monitor.readings[-1].step < 59


def test_a_watched_training_ends_where_an_unwatched_one_does(grpo, tmp_path):
    """Bit by bit: measuring draws no random number and leaves no trace in model or optimizer."""
    start = grpo[0] / "start"

    def trained(name, monitor=None):
        model = load_model(start)
        trainer = RLOOTrainer(
            model=model.model,
            reward_funcs=monitor.wrap(reward) if monitor else reward,
            args=RLOOConfig(
                output_dir=str(tmp_path / name),
                max_steps=4,
                per_device_train_batch_size=32,
                num_generations=4,
                max_completion_length=MAX_TOKENS,
                gradient_accumulation_steps=2,
                beta=0.05,
                report_to=[],
                save_strategy="no",
                use_cpu=True,
                bf16=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
            processing_class=model.tokenizer,
            callbacks=[monitor.callback] if monitor else None,
        )
        trainer.train()
        return dict(model.model.named_parameters())

    plain = trained("plain")
    monitor = CouplingMonitor(grpo[0] / "ref.parquet", every=1)
    watched = trained("watched", monitor)
    assert len(monitor.readings) == 4
    assert all(torch.equal(plain[name], weight) for name, weight in watched.items())
    assert not all(
        torch.equal(weight, other)
        for weight, other in zip(plain.values(), load_model(start).model.parameters(), strict=True)
    )


def test_two_processes_collect_and_watch_together(tmp_path):
    script = Path(sys.modules["monitored_training"].__file__)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
        "--multi_gpu",
    ]
    command = [*launch, "--main_process_port", "29631", str(script), *SMALL, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    log = json.loads((tmp_path / "coupling.json").read_text())
    assert len(log) == 2 and log[-1]["coupling/sft_loss_rise"] > 0
    assert done.stdout.count("of the time of the training") == 1
    # What two processes collected is what one collects from the same model.
    model = load_model(tmp_path / "start")
    settings = {"k": 8, "reward_bounds": (0, 1), "max_tokens": MAX_TOKENS}
    alone = tmp_path / "alone.parquet"
    collect(model.model, model.tokenizer, PROMPTS, reward, out=alone, **settings)
    assert alone.read_bytes() == (tmp_path / "ref.parquet").read_bytes()
