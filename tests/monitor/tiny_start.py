"""A tiny start policy that answers yes or no, in a folder, and its collected samples."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from nondecoupling.lm import collect, tiny_qwen3

WORDS = [" yes", " no"]


def says_yes(prompts, completions, **columns):
    return [float("yes" in text) for text in completions]


def collected_in(folder, prompts, **settings):
    tiny = tiny_qwen3([*prompts, *WORDS], seed=0)
    with torch.no_grad():
        for word in WORDS:  # likely enough to be drawn
            tiny.model.lm_head.weight[tiny.tokenizer(word)["input_ids"][0]] *= 3
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    settings = {"k": 4, "reward_bounds": (0, 1), "max_tokens": 2, **settings}
    out = folder / "ref.parquet"
    found = collect(tiny.model, tiny.tokenizer, prompts, says_yes, out=out, **settings)
    return SimpleNamespace(folder=folder, file=out, found=found)
