"""A tiny model whose words are those of the shared prompts and candidates."""

import pytest
from yes_or_no import CANDIDATES, PROMPTS

for package in ("torch", "transformers"):
    pytest.importorskip(package, reason="pip install nondecoupling[lm]")


@pytest.fixture(scope="module")
def tiny():
    from nondecoupling.lm import tiny_qwen3

    return tiny_qwen3([*PROMPTS, *(text for some in CANDIDATES for text in some)], seed=0)
