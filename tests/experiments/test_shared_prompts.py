"""The benchmark of shared prompts: what it compares, and that its committed table is about the threshold in force."""

import numpy as np
import pytest
from benchmarks import shared_prompts
from benchmarks.shared_prompts import PromptSizes, main, render

from nondecoupling.lm import response_rows


def test_a_case_says_what_is_left_and_whether_that_is_shared():
    few = PromptSizes("tiny", 64, 2, 8, left=0.14, alone=20.0, shared=5.0)
    many = PromptSizes("tiny", 4, 64, 8, left=0.95, alone=20.0, shared=30.0)
    text = render([few, many], rounds=3, load=0.0)
    assert "| tiny | 64 | 2 | 8 | 0.14 | 20.0 | 0.25 | yes |" in text
    assert "| tiny | 4 | 64 | 8 | 0.95 | 20.0 | 1.50 | no |" in text
    assert "- Where a prompt is not, shared over alone: 1.50 to 1.50" in text


def test_both_ways_are_what_they_are_called(monkeypatch):
    """The network sees one row to a prompt in one, and one to a response in the other, in turn."""
    model, seen = shared_prompts.network("tiny"), []
    plain = type(model).hidden_states
    monkeypatch.setattr(
        type(model),
        "hidden_states",
        lambda self, tokens, *how: seen.append(tuple(tokens.shape)) or plain(self, tokens, *how),
    )
    case = shared_prompts.measured("tiny", model, prompt=16, tokens=2, group=8, rounds=2)
    alone, together = (64, 17), seen[0]
    assert seen[-4:] == [alone, together, alone, together] and together[0] == 8
    assert case.left == pytest.approx(np.prod(together) / np.prod(alone))


def test_it_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_prompts, "RESULT", tmp_path / "shared_prompts.md")
    words = ["--network", "tiny", "--prompt", "4", "--tokens", "2", "--rounds", "1"]
    main(words)
    assert not shared_prompts.RESULT.exists()
    cases = main([*words, "--write"])
    text = shared_prompts.RESULT.read_text()
    assert [one.group for one in cases] == [2, 8] and text.count("| tiny |") == 2


def test_the_committed_table_is_about_the_threshold_in_force():
    text = shared_prompts.RESULT.read_text()
    assert f"at most {response_rows.WORTH_A_MASK:g} of the tokens are left" in text
