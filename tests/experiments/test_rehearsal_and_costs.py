"""The full-size rehearsal on a small configuration, and the parts of the cost model."""

import json

import cost_model
import full_size
import pytest

from nondecoupling.lm.tries import ONE_ROW_EACH, SHARED_PREFIXES

pytestmark = pytest.mark.slow  # processes of their own at full vocabulary

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def test_the_configuration_is_that_of_qwen3(monkeypatch):
    """Its number of parameters is 596,049,920, counted without making them."""
    c = full_size.CONFIG
    attention = (
        c["hidden_size"] * c["head_dim"] * 2 * (c["num_attention_heads"] + c["num_key_value_heads"])
    )
    norms = 2 * c["hidden_size"] + 2 * c["head_dim"]
    layer = attention + 3 * c["hidden_size"] * c["intermediate_size"] + norms
    whole = c["vocab_size"] * c["hidden_size"] + c["num_hidden_layers"] * layer + c["hidden_size"]
    assert whole == 596_049_920


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_size, "CONFIG", full_size.CONFIG | SMALL)
        place = tmp_path_factory.mktemp("checkpoint")
        full_size.write(place)
        yield place


def test_a_checkpoint_is_written_and_rehearsed(checkpoint, tmp_path, capfd):
    assert full_size.main(["rehearse", str(checkpoint), "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "measured.json").read_text())
    stages = {"sft", "rl", "sft-again", "joint", "warm-up", "rl-first", "sft-after"}
    assert set(numbers["stages"]) == stages
    assert all(seconds > 0 for seconds in numbers["stages"].values())
    assert 0.1 < numbers["peak_gib"] < 16
    assert numbers["layout"] == SHARED_PREFIXES
    assert "LoRA of rank 16" in numbers["model"]
    text = (tmp_path / "table.md").read_text()
    assert "not measured" in text and "H100 SXM" in text


def test_the_end_of_sequence_token_is_at_qwens_place(checkpoint):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.eos_token_id == 151_645
    text = " Final answer: Paris."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_flops_count_what_the_batch_evaluates(checkpoint):
    config = {"prompts": 4}
    shared, each = (
        full_size.flops_per_step(checkpoint, config, layout)
        for layout in (SHARED_PREFIXES, ONE_ROW_EACH)
    )
    assert each["token_places"] > 3 * shared["token_places"]
    assert (
        each["network_flops"] / shared["network_flops"]
        == each["token_places"] / shared["token_places"]
    )
    assert each["head_flops"] == shared["head_flops"]


SIZE = {"prompts": 2, "candidates": 4, "length": 8, "vocabulary": 50}


def test_a_size_is_measured_in_a_process_of_its_own():
    found = {
        layout: cost_model.in_a_process(SIZE, layout) for layout in (ONE_ROW_EACH, SHARED_PREFIXES)
    }
    assert found[ONE_ROW_EACH]["places"] == 2 * 4 * (8 + 7)
    assert found[SHARED_PREFIXES]["places"] == 2 * (8 + 4 * 7)
    assert all(line["seconds"] > 0 and line["gib"] >= 0 for line in found.values())


def test_tables_and_figures_of_costs():
    lines = {
        layout: [
            {**SIZE, "prompts": n, "seconds": n * factor, "gib": 0.1, "places": n}
            for n in (1, 2, 4)
        ]
        for layout, factor in ((ONE_ROW_EACH, 3.0), (SHARED_PREFIXES, 1.0))
    }
    text = cost_model.table({"prompts": lines})
    assert "| 4 | 4 | 4 | 12.000 | 4.000 | 3.00 |" in text
    assert "largest: 1.00 (one row each), 1.00 (shared)" in text
    assert len(cost_model.figure({"prompts": lines, "length": lines})) > 5_000
