"""How far training on one prompt moves the losses of others: measured, and predicted by the kernel (P6, D1).

A tabular policy decouples prompts exactly (D1). In a network they share parameters. With Phi the Jacobian of log p
(prompts x responses, by parameters), K = Phi Phi^T, the gradients of the SFT loss of prompt i and of the reward of
prompt j are Phi^T (p - d) and Phi^T p (r - E_p r) on their blocks. A step of size eta along the second

    changes the logits by          eta K (p (r - E_p r))     to first order, and with them
    the SFT loss by                eta <p - d, change>       to first order: the prediction by gradients
    or, since p is a softmax, by   P4's exact formula        for these logits: the prediction by the kernel.

At the optimum of SFT p - d vanishes, so the first prediction is nothing, and what is left is the second's divergence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nondecoupling import bounds
from nondecoupling.lm.enumerated_law import EnumeratedLaw
from validate.enumerated.task import EnumeratedTask

__all__ = ["Coupling", "KernelView", "couple", "features", "kernel_view", "move"]

# A step on a prompt is so long that it raises that prompt's reward by this much, to first order.
GAIN = 0.01


@dataclass(frozen=True)
class Coupling:
    """[prompts of the loss, prompts of the RL step] each; changes of the SFT loss in nats."""

    measured: np.ndarray
    by_gradients: np.ndarray
    by_kernel: np.ndarray
    cosine: np.ndarray

    def explained(self, predicted: np.ndarray) -> float:
        """The share of the measured changes' squares between different prompts that a prediction explains."""
        others = ~np.eye(len(predicted), dtype=bool)
        left = ((self.measured - predicted)[others] ** 2).sum()
        return float(1 - left / (self.measured[others] ** 2).sum())


@dataclass(frozen=True)
class KernelView:
    """P6 for an RL step on some prompts and the SFT loss of others; ``size`` counts prompts times responses."""

    cosine: float
    bound: float
    intrinsic_dimension: float
    size: int


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).double()


def _gradients(policy: EnumeratedLaw, values: Tensor) -> Iterator[Tensor]:
    """The gradient of each entry of ``values`` with respect to the trained parameters."""
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    for index in range(len(values)):
        yield _flat(torch.autograd.grad(values[index], parameters, retain_graph=True))


def features(policy: EnumeratedLaw) -> tuple[np.ndarray, Tensor]:
    """log p, [prompts, responses], and its Jacobian Phi, [prompts * responses, parameters]."""
    law = policy()
    return law.detach().numpy(), torch.stack(list(_gradients(policy, law.flatten())))


def couple(policy: EnumeratedLaw, task: EnumeratedTask, log_p: np.ndarray, phi: Tensor) -> Coupling:
    """An RL step on every prompt in turn, from the policy as it is (which is ref, so that J_b has J's gradient)."""
    count, responses = log_p.shape
    residual = bounds.reward_gradient(log_p, task.reward)
    error = bounds.sft_loss_gradient(log_p, task.log_d)
    blocks = phi.reshape(count, responses, -1)
    rl = torch.einsum("pr,prn->pn", torch.from_numpy(residual), blocks)
    sft = torch.einsum("pr,prn->pn", torch.from_numpy(error), blocks)
    steps = GAIN / (rl * rl).sum(dim=1)
    logits = ((phi @ rl.T) * steps).T.reshape(count, count, responses).numpy()
    moved = log_p + logits
    moved -= np.logaddexp.reduce(moved, axis=-1, keepdims=True)
    start = bounds.cross_entropy(task.log_d, log_p)
    norms = sft.norm(dim=1)[:, None] * rl.norm(dim=1)
    return Coupling(
        measured=_measured(policy, task, rl * steps[:, None]),
        by_gradients=((sft @ rl.T) * steps).numpy(),
        by_kernel=(bounds.cross_entropy(task.log_d, moved) - start).T,
        cosine=((sft @ rl.T) / norms).numpy(),
    )


def _measured(policy: EnumeratedLaw, task: EnumeratedTask, moves: Tensor) -> np.ndarray:
    """The change of every prompt's SFT loss by each move of the parameters, [losses, moves]."""
    log_d, before = torch.from_numpy(task.log_d), policy.language_model.state()
    with torch.no_grad():
        start, changes = bounds.cross_entropy(log_d, policy()), []
        for direction in moves:
            move(policy, direction)
            changes.append(bounds.cross_entropy(log_d, policy()) - start)
            policy.language_model.restore(before)
    return torch.stack(changes, dim=1).numpy()


def move(policy: EnumeratedLaw, direction: Tensor) -> None:
    """Add a direction, flat over the trained parameters, to them; inside of ``no_grad``."""
    first = 0
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            size = parameter.numel()
            part = direction[first : first + size].reshape(parameter.shape)
            parameter.add_(part.to(parameter.dtype))
            first += size


def kernel_view(
    task: EnumeratedTask, log_p: np.ndarray, phi: Tensor, rl_prompts: np.ndarray, kept: int
) -> KernelView:
    """RL on the prompts that ``rl_prompts`` marks, SFT on the others; the bound keeps ``kept`` eigenvectors."""
    kernel = (phi @ phi.T).numpy()
    u = np.where(rl_prompts[:, None], bounds.reward_gradient(log_p, task.reward), 0.0).flatten()
    v = np.where(rl_prompts[:, None], 0.0, bounds.sft_loss_gradient(log_p, task.log_d)).flatten()
    values = np.linalg.eigvalsh(kernel)
    return KernelView(
        cosine=float(bounds.kernel_cosine(kernel, u, v)),
        bound=float(bounds.spectral_misalignment_bound(kernel, u, v, kept)),
        intrinsic_dimension=float(values.sum() / values[-1]),
        size=len(values),
    )
