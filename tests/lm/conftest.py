"""A tiny model for prompts and candidates of the tests' own."""

import pytest

for package in ("torch", "transformers"):
    pytest.importorskip(package, reason="pip install nondecoupling[lm]")

PROMPTS = [f"Is {thing} {color}?" for thing in ("snow", "coal") for color in ("white", "black")]
STYLES = (" {}.", " It is {}.", " Answer: {}.")
CANDIDATES = [
    [style.format(word) for style in STYLES for word in ("yes", "no")] for _ in range(len(PROMPTS))
]


@pytest.fixture(scope="module")
def tiny():
    from nondecoupling.lm import tiny_qwen3

    return tiny_qwen3([*PROMPTS, *(text for some in CANDIDATES for text in some)], seed=0)
