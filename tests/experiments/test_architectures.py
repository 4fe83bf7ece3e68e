"""Architectures and coupling: the law of every family, what the kernel predicts, and what a table policy would do."""

import json

import architectures
import numpy as np
import pytest
import torch
from torch import nn
from validate.configuration import configuration
from validate.enumerated.coupling import couple, features, kernel_view
from validate.enumerated.facts import embedded_task, vocabulary_texts
from validate.enumerated.means import PromptMeans
from validate.enumerated.training import Goal, Trainer
from validate.models import model_of_run

from nondecoupling import bounds
from nondecoupling.lm.enumerated_law import EnumeratedLaw, choose_layout
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tolerances import mass_error, mass_tolerance
from nondecoupling.lm.tries import ONE_ROW_EACH, SHARED_PREFIXES, encode

pytestmark = pytest.mark.slow  # five families of models

TASK = embedded_task(6)
LAYOUTS = {
    "qwen3": SHARED_PREFIXES,
    "llama": SHARED_PREFIXES,
    "gemma2": SHARED_PREFIXES,
    "mamba2": ONE_ROW_EACH,
    "falcon-h1": ONE_ROW_EACH,
}


@pytest.fixture(scope="module", params=list(LAYOUTS))
def policy(request):
    config = configuration({"model": f"tiny-{request.param}"})
    model = model_of_run(config, vocabulary_texts())
    encoded = [encode(model.tokenizer, p.text, p.responses) for p in TASK.prompts]
    layout = choose_layout(model, encoded).layout
    assert layout == LAYOUTS[request.param]
    policy = EnumeratedLaw(model, encoded, layout)
    # A little SFT: at random weights the listed responses have no mass to speak of.
    goal = Goal("sft", PromptMeans(TASK.log_d, TASK.reward, 0.2, 0.05), None)
    for _ in Trainer(policy, Processes(), goal, 25, 5e-3).steps_left(25):
        pass
    return policy


def test_every_family_has_an_exact_law(policy):
    law = policy.measured()
    assert mass_error(law) <= mass_tolerance(law)


def test_the_kernel_predicts_what_a_step_on_one_prompt_does_to_others(policy):
    found = couple(policy, TASK, *features(policy))
    assert found.explained(found.by_kernel) > 0.98
    # Before SFT is at its optimum the loss has a slope, and gradients alone predict much of it too.
    assert found.explained(found.by_gradients) > 0.5
    assert found.explained(-found.by_kernel) < 0
    assert np.abs(found.measured[~np.eye(6, dtype=bool)]).max() > 1e-5
    assert (np.abs(found.cosine) <= 1 + 1e-6).all()


def test_the_bound_of_p6_holds(policy):
    view = kernel_view(TASK, *features(policy), np.arange(6) % 2 == 0, kept=4)
    assert abs(view.cosine) <= view.bound <= 1 + 1e-9
    assert 1 <= view.intrinsic_dimension <= view.size == 42


class Table(nn.Module):
    """A tabular policy: a logit per prompt and response, behind the interface of ``EnumeratedLaw``."""

    def __init__(self, task):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.model = nn.ParameterList([torch.randn(task.reward.shape, generator=generator)])
        self.language_model = self

    def forward(self):
        return torch.log_softmax(self.model[0].double(), dim=-1)

    def state(self):
        return self.model[0].detach().clone()

    def restore(self, state):
        with torch.no_grad():
            self.model[0].copy_(state)


def test_a_table_decouples_prompts_exactly():
    """D1: what a network adds is all in the off-diagonal blocks of the kernel."""
    table = Table(TASK)
    log_p, phi = features(table)
    found = couple(table, TASK, log_p, phi)
    others = ~np.eye(6, dtype=bool)
    for changes in (found.measured, found.by_gradients, found.by_kernel):
        assert np.abs(changes[others]).max() < 1e-12
        assert np.abs(changes[~others]).min() > 1e-6
    # On its own prompt the step is a step along the logits, whose effect P4 gives exactly.
    own = np.diag(found.by_kernel)
    np.testing.assert_allclose(np.diag(found.measured), own, rtol=0.02)
    gradient = bounds.reward_gradient(log_p, TASK.reward)
    slope = (bounds.sft_loss_gradient(log_p, TASK.log_d) * gradient).sum(axis=1)
    np.testing.assert_array_equal(np.sign(np.diag(found.by_gradients)), np.sign(slope))


def test_a_family_from_model_to_table(tmp_path):
    short = [
        "--sft-steps",
        "12",
        "--rl-steps",
        "6",
        "--warmup-steps",
        "4",
        "--checkpoint-every",
        "6",
    ]
    given = ["--family", "llama", "--out", str(tmp_path), "--", *short]
    assert architectures.main(given) == 0
    (numbers,) = json.loads((tmp_path / "results.json").read_text())
    assert numbers["counts"]["REFUTED"] == 0
    assert numbers["layout"] == SHARED_PREFIXES
    assert set(numbers["coupling"]) == {"warm-up", "sft"}
    text = (tmp_path / "table.md").read_text()
    assert "| architecture | attention |" in text and "Coupling at the result of warm-up" in text
    assert (tmp_path / "coupling.svg").stat().st_size > 10_000
    # Another seed is another run: the folder's is not passed off as it.
    with pytest.raises(SystemExit, match="exit status 2"):
        architectures.main([*given[:2], "--seed", "1", *given[2:]])
    place = tmp_path / "llama" / "policies"
    (place / "sft.pt").write_bytes((place / "base.pt").read_bytes())
    with pytest.raises(SystemExit, match=r"sft\.pt is damaged"):
        architectures.main(given)


def test_couplings_are_with_the_task_and_the_reward_of_the_runs(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        architectures,
        "couple",
        lambda policy, task, *rest: (seen.append(task), couple(policy, task, *rest))[1],
    )
    short = "--prompts 4 --reward format --sft-steps 6 --rl-steps 4 --warmup-steps 3"
    given = ["--family", "llama", "--out", str(tmp_path), "--", *short.split()]
    assert architectures.main(given) == 0
    asked = embedded_task(4, "format")
    assert len(seen) == 2 and all(task.prompts == asked.prompts for task in seen)
    (numbers,) = json.loads((tmp_path / "results.json").read_text())
    assert numbers["kernel"]["sft"]["size"] == 4 * 7
