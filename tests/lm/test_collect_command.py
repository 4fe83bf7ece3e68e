"""The commands collect, score and monitor from a shell: a start policy, a later checkpoint, a run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from nondecoupling.collected import CollectedSamples
from nondecoupling.lm import load_model, tiny_qwen3
from tests.command_line import invoke

PROMPTS = [f"Is {thing} {word}?" for thing in ("snow", "coal", "sky", "sea") for word in "abcd"]
REWARD = """
def says_yes(prompts, completions, answer, **columns):
    return [float(word in text) for word, text in zip(answer, completions)]
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a model, prompts with answers and experts, and a reward function."""
    tiny = tiny_qwen3([*PROMPTS, " yes", " no"], seed=0)
    with torch.no_grad():
        tiny.model.lm_head.weight[tiny.tokenizer(" yes")["input_ids"][0]] *= 3
    tiny.model.save_pretrained(tmp_path / "start")
    tiny.tokenizer.save_pretrained(tmp_path / "start")
    rows = [{"prompt": prompt, "answer": "yes", "expert": " yes"} for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rewards.py").write_text(REWARD)
    return tmp_path


def arguments(place, **changes):
    options = {
        "reward": f"{place / 'rewards.py'}:says_yes",
        "reward-low": "0",
        "reward-high": "1",
        "max-tokens": "2",
        "k": "4",
        "experts": "expert",
        "out": str(place / "ref.parquet"),
    } | changes
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["collect", str(place / "start"), str(place / "prompts.jsonl"), *given]


def test_from_a_checkpoint_to_the_rise_of_its_successor(place):
    shown = invoke(*arguments(place))
    assert shown.exit_code == 0, shown.output
    assert "16 prompts, 4 responses" in shown.output
    later = load_model(place / "start")
    with torch.no_grad():
        later.model.lm_head.weight *= 1.3
    later.model.save_pretrained(place / "later")
    later.tokenizer.save_pretrained(place / "later")
    file = str(place / "ref.parquet")
    shown = invoke("score", str(place / "later"), file, "--name", "20")
    assert shown.exit_code == 0 and "nats per response" in shown.output, shown.output
    rollouts = [{"input": PROMPTS[i % 16], "score": float(i % 2)} for i in range(64)]
    (place / "20.jsonl").write_text("\n".join(map(json.dumps, rollouts)))
    page = place / "run.html"
    shown = invoke(
        "monitor", str(place / "20.jsonl"), "--samples", file, "--html", str(page), "--json"
    )
    assert shown.exit_code == 0, shown.output
    (reading,) = json.loads(shown.output)["readings"]
    found = CollectedSamples.read(file)
    rise = float((found.log_ref - found.log_p(20)).mean())
    assert reading["sft_loss_rise"]["value"] == pytest.approx(rise)
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "the run" in text and f"{rise:.4g}" in text
    assert "<script" not in text and "src=" not in text  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reward": "says_yes"}, "file.py:name or module:name"),
        ({"reward": "rewards.py:says_yes"}, "no file 'rewards.py'"),
        ({"reward": "math:no_such"}, "math has no function 'no_such'"),
        ({"reward": "no_such_module:f"}, "no_such_module"),
        ({"experts": "gold"}, "--experts gold"),
        ({"reward-high": "0.5"}, "reward_bounds=(0, 0.5)"),
        ({"k": "1"}, "--k"),
    ],
)
def test_misuse_is_named(place, change, named):
    shown = invoke(*arguments(place, **change))
    assert shown.exit_code == 2 and named in " ".join(shown.output.split()), shown.output


SLOW_REWARD = (
    REWARD
    + """

def slowly(prompts, completions, answer, **columns):
    import time
    time.sleep(0.1)
    return says_yes(prompts, completions, answer)
"""
)


@pytest.mark.slow  # two processes that load torch
def test_a_killed_collection_goes_on_and_makes_the_same_file(place):
    (place / "rewards.py").write_text(SLOW_REWARD)
    options = {"reward": f"{place / 'rewards.py'}:slowly", "rows-at-once": "4"}
    command = [sys.executable, "-m", "nondecoupling", *arguments(place, **options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    parts, deadline = place / "ref.parquet.parts", time.monotonic() + 120
    while len(list(parts.glob("*.rewarded.json")) if parts.exists() else []) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("*.rewarded.json")))
    assert 3 <= done < 16 and not (place / "ref.parquet").exists()
    assert subprocess.run(command, **quiet).returncode == 0
    whole = str(place / "whole.parquet")
    assert invoke(*arguments(place, **options, out=whole)).exit_code == 0
    assert (place / "ref.parquet").read_bytes() == (place / "whole.parquet").read_bytes()
