"""The script and its parts, on a preset so small that a run takes a second or two."""

from pathlib import Path

import pytest

for package in ("torch", "transformers", "peft", "matplotlib", "jinja2"):
    pytest.importorskip(package, reason="pip install nondecoupling[experiments]")

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="session")
def script() -> Path:
    return EXPERIMENTS / "qwen_validate.py"


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Options of a very small run."""
    options = {"prompts": 3, "sft-steps": 40, "rl-steps": 40}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [*words, "--checkpoint-every", "8"]
