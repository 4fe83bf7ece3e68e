"""Step 5: seconds per training step of a model of Qwen3-0.6B's exact shape, by what computes its head's loss.

Random weights: time and memory alone are meant. Then ``full_size.py rehearse`` on the same shape, and the law that the
enumerated protocol trains, over its vocabulary: in a lower precision it must lie within what rounding does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import device, measured
from benchmarks.gpu_session.problem import TINY, Sizes
from torch import Tensor

from nondecoupling.kernels import token_stats

__all__ = ["cases", "enumerated_law"]

EXPERIMENTS = Path(__file__).parents[2]
BATCH, LENGTH = 4, 1024
REHEARSAL_SECONDS = 45.0


def _shape(sizes: Sizes) -> dict[str, Any]:
    import full_size

    if sizes != TINY:
        return full_size.CONFIG
    small = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "head_dim": 8}
    few = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    return full_size.CONFIG | small | few | {"bos_token_id": 1, "eos_token_id": 2}


def mean_logprob(hidden: Tensor, weight: Tensor, targets: Tensor, head: str) -> Tensor:
    """The mean log-probability of ``targets``; ``head`` is "eager" or an ``impl`` of ``token_stats``."""
    if head == "eager":
        return -F.cross_entropy((hidden @ weight.T).float(), targets)
    return token_stats(hidden, weight, targets, impl=head).logprob.mean()


def training_step(sizes: Sizes, head: str, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    with device():
        model: Any = Qwen3ForCausalLM(Qwen3Config(**_shape(sizes), dtype=dtype))
        model.to(dtype)
        batch, length = (1, 12) if sizes == TINY else (BATCH, LENGTH)
        tokens = torch.randint(0, model.config.vocab_size, (batch, length + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    last: list[float] = []

    def step() -> None:
        hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        value = mean_logprob(
            hidden.reshape(-1, hidden.shape[-1]),
            model.lm_head.weight,
            tokens[:, 1:].reshape(-1),
            head,
        )
        (-value).backward()
        optimizer.step()
        optimizer.zero_grad()
        last.append(float(value.detach()))

    fields = measured(step, seconds=1.5)
    name = str(dtype).removeprefix("torch.")
    yield {
        "head": head,
        "dtype": name,
        "tokens": batch * length,
        "first_loss": -last[0],
    } | fields


def rehearsal() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.executable, str(EXPERIMENTS / "full_size.py")]
        subprocess.run([*script, "write", f"{folder}/model"], check=True)
        done = subprocess.run(
            [*script, "rehearse", f"{folder}/model", "--out", folder],
            capture_output=True,
            text=True,
        )
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", flush=True)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-400:]}")
        yield json.loads((Path(folder) / "measured.json").read_text())


def enumerated_law(sizes: Sizes, precision: torch.dtype) -> Iterator[dict[str, Any]]:
    from nondecoupling.lm import tiny_qwen3
    from nondecoupling.lm.enumerated_law import check_precision
    from nondecoupling.lm.tries import SHARED_PREFIXES, encode

    prompt, responses = "Is snow white?", [" Yes.", " No.", " It is.", " It is not."]
    tiny = tiny_qwen3([prompt, *responses], seed=0)
    model: Any = tiny.model
    model.resize_token_embeddings(sizes.vocabulary, mean_resizing=False)
    model.to(device())
    encoded = [encode(tiny.tokenizer, prompt, responses)]
    checked = check_precision(tiny, encoded, SHARED_PREFIXES, precision)
    yield {"error": checked.difference, "tolerance": checked.tolerance}


def cases(sizes: Sizes) -> list[Case]:
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        for head in ("triton", "eager", "chunked"):

            def run(head: str = head, dtype: torch.dtype = dtype) -> Iterator[dict[str, Any]]:
                return training_step(sizes, head, dtype)

            name = str(dtype).removeprefix("torch.")
            results.append(Case(f"training step, {head}, {name}", run, 20.0))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        law = partial(enumerated_law, sizes, dtype)
        results.append(Case(f"enumerated law, {name}", law, 20.0))
    if torch.cuda.is_available():
        results.append(Case("full_size.py rehearse", rehearsal, REHEARSAL_SECONDS))
    return results
