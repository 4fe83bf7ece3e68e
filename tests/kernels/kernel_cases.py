"""Inputs, eager baselines and error bounds shared by the kernel tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats

EPS32 = torch.finfo(torch.float32).eps
LOW_PRECISION = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Model:
    """One model's side of a test: float64 masters, rounded to ``dtype`` so that every route sees one input."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    @staticmethod
    def random(
        tokens: int, vocabulary: int, width: int, *, bias: bool, scale: float = 2.0, seed: int = 0
    ) -> Model:
        """Logits of standard deviation ``scale``."""
        generator = torch.Generator(torch.get_default_device()).manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return Model(
            scale * normal(tokens, width) / width**0.5,
            normal(vocabulary, width),
            normal(vocabulary) if bias else None,
        )

    def moved(self, size: float, seed: int = 1) -> Model:
        """The head of a second model near this one."""
        other = Model.random(
            self.hidden.shape[0], *self.weight.shape, bias=self.bias is not None, seed=seed
        )
        return Model(
            self.hidden + size * other.hidden,
            self.weight + size * other.weight,
            None if self.bias is None or other.bias is None else self.bias + size * other.bias,
        )

    def to(self, dtype: torch.dtype) -> Model:
        return Model(
            self.hidden.to(dtype),
            self.weight.to(dtype),
            None if self.bias is None else self.bias.to(dtype),
        )

    def leaves(self) -> Model:
        def leaf(tensor: Tensor) -> Tensor:
            return tensor.detach().clone().requires_grad_()

        return Model(
            leaf(self.hidden), leaf(self.weight), None if self.bias is None else leaf(self.bias)
        )

    def tensors(self) -> list[Tensor]:
        return [t for t in (self.hidden, self.weight, self.bias) if t is not None]

    def with_hidden(self, hidden: Tensor) -> Model:
        return replace(self, hidden=hidden)


def eager_logits(head: Model, temperature: float = 1.0, softcap: float | None = None) -> Tensor:
    """What most training code does: logits in the input dtype, the softmax in float32."""
    logits = head.hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits / temperature
    return logits if logits.dtype == torch.float64 else logits.float()


def eager_stats(
    head: Model,
    targets: Tensor,
    exclude: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> tuple[Tensor, ...]:
    logits = eager_logits(head, temperature, softcap)
    log_p = torch.log_softmax(logits, dim=1)
    ignored = targets < 0
    logprob = log_p.gather(1, targets.clamp(min=0)[:, None])[:, 0].masked_fill(ignored, 0)
    results = [logprob, torch.logsumexp(logits, dim=1), -(log_p.exp() * log_p).sum(dim=1)]
    if exclude is not None:
        kept = logits.clone()
        for row, tokens in enumerate(exclude.tolist()):
            kept[row, [token for token in tokens if token >= 0]] = -torch.inf
        results.append(torch.logsumexp(kept, dim=1))
    return tuple(results)


def eager_kl(p: Model, q: Model, temperature: float = 1.0, softcap: float | None = None) -> Tensor:
    log_p = torch.log_softmax(eager_logits(p, temperature, softcap), dim=1)
    log_q = torch.log_softmax(eager_logits(q, temperature, softcap), dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def kernel_stats(
    head: Model, targets: Tensor, exclude: Tensor | None = None, **options: object
) -> tuple[Tensor, ...]:
    stats = token_stats(
        head.hidden, head.weight, targets, bias=head.bias, exclude=exclude, **options
    )
    return tuple(stats[:3] if exclude is None else stats[:4])


def kernel_kl(p: Model, q: Model, **options: object) -> Tensor:
    return token_kl(p.hidden, p.weight, q.hidden, q.weight, bias_p=p.bias, bias_q=q.bias, **options)


def gradients(results: tuple[Tensor, ...], upstream: Tensor, *heads: Model) -> list[Tensor]:
    """Gradients of sum_k <upstream[k], results[k]>; rows of -inf take no part."""
    loss = sum(
        (torch.where(torch.isfinite(value), value, 0).double() * weight).sum()
        for value, weight in zip(results, upstream, strict=False)
    )
    leaves = [tensor for head in heads for tensor in head.tensors()]
    return list(torch.autograd.grad(loss, leaves))


def logit_error(head: Model, temperature: float = 1.0) -> Tensor:
    """[T]: what float32 accumulation may do to a logit, eps32 * sum |h w| plus its own rounding, times 8.

    8 covers the blocked summation order (about log2 of the width) and a few roundings in exp and log.
    """
    sizes = head.hidden.abs() @ head.weight.abs().T
    if head.bias is not None:
        sizes = sizes + head.bias.abs()
    return 8 * EPS32 * (1 + sizes.amax(dim=1) / temperature)


def gradient_bounds(
    head: Model, logit_gradient: Tensor, dtype: torch.dtype, relative: Tensor
) -> list[Tensor]:
    """Errors of the gradients of hidden, weight and bias when each logit gradient is off by ``relative`` [T].

    ``logit_gradient`` [T, V] bounds the size of the terms of d loss / d logit. In low precision it is rounded
    once before the products and the result once after: together one eps of the dtype.
    """
    rounding = torch.finfo(dtype).eps if dtype in LOW_PRECISION else 0.0
    terms = logit_gradient * (relative[:, None] + rounding)
    bounds = [terms @ head.weight.abs(), terms.T @ head.hidden.abs()]
    if head.bias is not None:
        bounds.append(terms.sum(dim=0))
    # float16 may underflow: its smallest step bounds what is lost.
    step = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return [bound + step for bound in bounds]


def assert_no_worse(kernel: Tensor, eager: Tensor, truth: Tensor, bound: Tensor, what: str) -> None:
    """|kernel - truth| <= max |eager - truth| + bound, elementwise; infinities must agree exactly."""
    infinite = torch.isinf(truth)
    assert torch.equal(kernel.double()[infinite], truth[infinite]), what
    error = (kernel.double() - truth).masked_fill(infinite, 0).abs()
    allowed = (eager.double() - truth).masked_fill(infinite, 0).abs().nan_to_num(0.0, 0.0, 0.0)
    allowed = allowed.max() + bound if allowed.numel() else bound
    worst = (error - allowed).max() if error.numel() else torch.zeros(())
    assert not torch.isnan(kernel).any(), f"{what} is NaN"
    assert worst <= 0, f"{what}: error {error.max():.3g} exceeds the allowed by {worst:.3g}"
