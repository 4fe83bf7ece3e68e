"""What architectures.py refuses before it trains anything, and the task of the runs that it measures."""

import architectures
import numpy as np
import pytest
from validate.enumerated.facts import embedded_task
from validate.enumerated.inputs import inputs_of


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--precision bfloat16", "--precision is 'bfloat16', but the rounding"),
        ("--order sft-rl", "--order is 'sft-rl', but the table has RL after SFT"),
        ("--protocol sampled", "--protocol is 'sampled', but couplings are exact sums"),
        ("--data-law self", "--data-law is 'self', but couplings are with the SFT loss"),
        ("--task some.jsonl", "--task is 'some.jsonl', but couplings are of its capitals"),
        ("--model tiny-qwen3", "--model is set for each family; give --family before the --"),
        ("--seed 1", "--seed is set for each family; give --seed before the --"),
        ("--out elsewhere", "--out goes before the --"),
        ("--resume", "a run that was stopped goes on by itself"),
        ("--prompts 2", "--prompts is 2; couplings within a kind of prompts need at least 3"),
        ("--prompts 33", "prompts is 33"),
        ("--reward nonsense", "--reward is 'nonsense'"),
        ("--cycles 4", "--cycles is 4, which is about alternation"),
    ],
)
def test_what_could_not_be_measured_is_not_trained(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(architectures, "run_protocol", lambda *_: pytest.fail("would train"))
    out = tmp_path / "run"
    with pytest.raises(SystemExit, match="2"):
        architectures.main(["--family", "llama", "--out", str(out), "--", *words.split()])
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_what_changes_nothing_that_is_needed_is_accepted():
    words = "--order all --data-law expert --precision float64 --prompts 3 --reward format"
    config = architectures.configuration_of("mamba2", 3, words.split())
    assert (config.model, config.seed, config.prompts) == ("tiny-mamba2", 3, 3)
    assert np.array_equal(inputs_of(config).task.reward, embedded_task(3, "format").reward)
