"""Scores of responses with a prompt that stands once for several of them, over scores with a row for each response.

    python experiments/benchmarks/shared_prompts.py --write

Both ways have the same numbers (``nondecoupling/lm/response_rows.py``), and which one is faster decides when a prompt
is shared: for two networks with random weights and random responses, each ratio of processor seconds on one thread
beside the share of the tokens that is left. What is scored twice is the same; each time is the least of several.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from nondecoupling.lm import LanguageModel, from_transformers, response_rows, tiny_qwen3
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse

RESULT = Path(__file__).parent.parent / "results" / "shared_prompts.md"
RESPONSES, GROUPS = 64, (2, 8)
PROMPT, TOKENS = (4, 16, 64, 128), (2, 8, 24, 64)
ROUNDS = 3
WORDS = [f" w{n}" for n in range(200)]
# Hidden size and layers.
NETWORKS = {"tiny": (64, 2), "wider": (192, 4)}


@dataclass(frozen=True)
class PromptSizes:
    """Milliseconds with a row for each response and with shared prompts, and the tokens of both."""

    network: str
    prompt: int
    tokens: int
    group: int
    left: float
    alone: float
    shared: float

    @property
    def ratio(self) -> float:
        return self.shared / self.alone

    @property
    def is_shared(self) -> bool:
        return self.left <= response_rows.WORTH_A_MASK


def network(name: str) -> LanguageModel:
    tiny = tiny_qwen3(WORDS, seed=0)
    hidden, layers = NETWORKS[name]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tiny.tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.1,
        eos_token_id=tiny.tokenizer.eos_token_id,
        pad_token_id=tiny.tokenizer.pad_token_id,
    )
    return from_transformers(Qwen3ForCausalLM(config).float(), tiny.tokenizer)


def measured(
    name: str, model: LanguageModel, prompt: int, tokens: int, group: int, rounds: int
) -> PromptSizes:
    rng, size = np.random.default_rng(0), len(model.tokenizer)
    prompts = [rng.integers(size, size=prompt).tolist() for _ in range(RESPONSES // group)]
    pairs = [
        PromptResponse(ids, rng.integers(size, size=tokens).tolist())
        for ids in prompts
        for _ in range(group)
    ]

    def seconds(share: float) -> float:
        with patch.object(response_rows, "WORTH_A_MASK", share), torch.no_grad():
            before = time.process_time()
            log_probs(model, pairs)
            return time.process_time() - before

    rows = response_rows.response_rows(pairs, response_rows.LONGEST_ROW, torch.float32)
    alone = response_rows.response_rows(pairs, 0, torch.float32)
    never, always = 0.0, np.inf
    seconds(always)  # the first compares with rows of their own
    times = [(seconds(never), seconds(always)) for _ in range(rounds)]
    least = [1e3 * min(one) for one in zip(*times, strict=True)]
    return PromptSizes(
        name, prompt, tokens, group, rows.tokens.numel() / alone.tokens.numel(), least[0], least[1]
    )


def render(cases: Sequence[PromptSizes], rounds: int, load: float) -> str:
    packages = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "transformers"))
    bound = response_rows.WORTH_A_MASK
    sizes = "; ".join(
        f"{name}: hidden size {hidden}, {layers} layers"
        for name, (hidden, layers) in NETWORKS.items()
    )
    lines = [
        "# What a shared prompt saves",
        "",
        f"{RESPONSES} responses, several to each prompt. {sizes}. Processor seconds on one thread, the least of "
        f"{rounds} in turn; a prompt is shared where at most {bound:g} of the tokens are left. {platform.machine()}, "
        f"{os.cpu_count()} cores, one-minute load average {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the "
        f"end. Python {platform.python_version()}, {packages}.",
        "",
        "| network | tokens of a prompt | of a response | responses to a prompt | tokens left | ms alone "
        "| shared / alone | is shared |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in cases:
        lines.append(
            f"| {one.network} | {one.prompt} | {one.tokens} | {one.group} | {one.left:.2f} | {one.alone:.1f} "
            f"| {one.ratio:.2f} | {'yes' if one.is_shared else 'no'} |"
        )
    lines.append("")
    for is_shared, what in ((True, "is shared"), (False, "is not")):
        ratios = [one.ratio for one in cases if one.is_shared == is_shared]
        if ratios:
            lines.append(
                f"- Where a prompt {what}, shared over alone: {min(ratios):.2f} to {max(ratios):.2f}, geometric mean "
                f"{np.exp(np.mean(np.log(ratios))):.2f}, in {len(ratios)} cases."
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[PromptSizes]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--prompt", type=int, nargs="+", default=PROMPT, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="of a response")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULT.name}")
    options = parser.parse_args(arguments)
    load, threads = os.getloadavg()[0], torch.get_num_threads()
    torch.set_num_threads(1)
    cases = []
    for name in options.network:
        model = network(name)
        for prompt in options.prompt:
            for tokens in options.tokens:
                for group in GROUPS:
                    cases.append(measured(name, model, prompt, tokens, group, options.rounds))
    torch.set_num_threads(threads)
    text = render(cases, options.rounds, load)
    print(text)
    if options.write:
        RESULT.write_text(text, encoding="utf-8")
    return cases


if __name__ == "__main__":
    main()
