"""The operators under opcheck, torch.compile and autograd's rules."""

import shutil
import sys

import pytest
import torch
from kernel_cases import EPS32, Model, gradients, kernel_kl, kernel_stats

from nondecoupling.kernels import sequence_logprob

OPERATORS = torch.ops.nondecoupling
COMPILED = [(route, "aot_eager") for route in ("reference", "auto", "chunked")]
if shutil.which("g++"):
    # The reference is plain torch: one backend shows that there is no graph break.
    COMPILED += [
        pytest.param(route, "inductor", marks=pytest.mark.slow) for route in ("auto", "chunked")
    ]


def inputs(dtype=torch.float32, bias=True):
    head = Model.random(6, 40, 5, bias=bias).to(dtype).leaves()
    targets = torch.tensor([0, 39, -100, 4, 7, 1])
    exclude = torch.tensor([[0, 1], [4, -1], [-1, -1], [4, 4], [10, 9], [3, 2]])
    return head, targets, exclude


@pytest.mark.slow  # a second each and more: torch traces and compiles it
@pytest.mark.parametrize("softcap", (None, 5.0))
@pytest.mark.parametrize("bias", (True, False))
def test_opcheck_token_stats(bias, softcap):
    head, targets, exclude = inputs(bias=bias)
    arguments = (head.hidden, head.weight, head.bias, targets)
    rest = (0.8, softcap, -100, "chunked", True)
    torch.library.opcheck(OPERATORS.token_stats, (*arguments, exclude, *rest, True))
    if bias:
        torch.library.opcheck(OPERATORS.token_stats, (*arguments, None, *rest, False))


@pytest.mark.parametrize("bias", (pytest.param(True, marks=pytest.mark.slow), False))
def test_opcheck_token_kl(bias):
    p, _, _ = inputs(bias=bias)
    q = p.moved(0.3).to(torch.float32).leaves()
    heads = (p.hidden, p.weight, p.bias, q.hidden, q.weight, q.bias)
    torch.library.opcheck(OPERATORS.token_kl, (*heads, 0.8, 5.0, "chunked", True, not bias))


@pytest.mark.slow  # traces and compiles
def test_opcheck_the_backwards_and_the_check():
    head, targets, exclude = inputs()
    detached = [tensor.detach() for tensor in head.tensors()]
    hidden, weight, bias = detached
    arguments = (hidden, weight, bias, targets, exclude, 1.0, None, -100, "chunked", True, True)
    *saved, stored = OPERATORS.token_stats(*arguments)
    upstream = [torch.ones_like(value) for value in saved]
    torch.library.opcheck(
        OPERATORS.token_stats_backward,
        (*arguments, upstream[:4], saved, stored, [True, False, True]),
    )
    arguments = (hidden, weight, bias, hidden, weight, None, 1.0, None, "chunked", True, True)
    saved = OPERATORS.token_kl(*arguments)
    needs = [True, True, True, True, True, False]
    torch.library.opcheck(OPERATORS.token_kl_backward, (*arguments, upstream[0], *saved, needs))
    torch.library.opcheck(OPERATORS.checked_tokens, (targets, 40, -100, "targets"))


def losses(impl):
    def loss(hidden, weight, bias, other, targets, exclude):
        stats = kernel_stats(Model(hidden, weight, bias), targets, exclude, impl=impl)
        kl = kernel_kl(Model(hidden, weight, bias), Model(other, weight, None), impl=impl)
        total = sequence_logprob(hidden[None], weight, targets[None], bias=bias, impl=impl)
        return sum(value.square().sum() for value in stats) + kl.sum() + total.sum()

    return loss


@pytest.mark.slow  # compiles
@pytest.mark.parametrize(("route", "backend"), COMPILED)
def test_compile_fullgraph(route, backend, tmp_path, monkeypatch):
    # Inductor's cache does not see what an operator's fake returns: an older version's code would be run.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    head, targets, exclude = inputs()
    other = head.moved(0.2).hidden.detach().float().requires_grad_()
    leaves = [*head.tensors(), other]
    eager = losses(route)(*leaves, targets, exclude)
    compiled = torch.compile(losses(route), fullgraph=True, backend=backend)(
        *leaves, targets, exclude
    )
    assert torch.allclose(eager, compiled, rtol=32 * EPS32)
    for first, second in zip(
        torch.autograd.grad(eager, leaves), torch.autograd.grad(compiled, leaves), strict=True
    ):
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # compiles
def test_compile_with_a_dynamic_number_of_tokens():
    head, _, _ = inputs()
    compiled = torch.compile(
        lambda *a: kernel_stats(Model(*a[:3]), a[3]),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    for tokens in (6, 3, 11):
        hidden = Model.random(tokens, 40, 5, bias=False).hidden.float().requires_grad_()
        targets = torch.arange(tokens)
        values = compiled(hidden, head.weight, head.bias, targets)
        expected = kernel_stats(Model(hidden, head.weight, head.bias), targets)
        for first, second in zip(values, expected, strict=True):
            assert torch.allclose(first, second, rtol=32 * EPS32)
        gradients(values, torch.ones(3, tokens), Model(hidden, head.weight, head.bias))


@pytest.mark.slow  # compiles
def test_compile_with_another_temperature():
    head, targets, _ = inputs()

    def entropy(temperature):
        return kernel_stats(head, targets, temperature=temperature)[2]

    compiled = torch.compile(entropy, fullgraph=True, backend="aot_eager")
    for temperature in (0.5, 0.75, 2.0):
        assert torch.allclose(compiled(temperature), entropy(temperature), rtol=32 * EPS32)


def test_a_bad_target_raises_inside_a_compiled_graph_too():
    head, targets, _ = inputs()
    compiled = torch.compile(
        lambda *a: kernel_stats(Model(*a[:3]), a[3]), fullgraph=True, backend="aot_eager"
    )
    targets = targets.clone()
    targets[3] = 40
    with pytest.raises(IndexError, match=r"targets\[3\] is 40"):
        compiled(head.hidden, head.weight, head.bias, targets)


def test_second_derivatives_are_refused_not_wrong():
    head, targets, _ = inputs(torch.float64)
    logprob = kernel_stats(head, targets)[0]
    (gradient,) = torch.autograd.grad(logprob.sum(), head.hidden, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), head.weight)


def test_no_grad_and_frozen_inputs():
    head, targets, exclude = inputs()
    with torch.no_grad():
        assert not any(v.requires_grad for v in kernel_stats(head, targets, exclude))
    frozen = Model(*(tensor.detach() for tensor in head.tensors()))
    assert not any(v.requires_grad for v in kernel_stats(frozen, targets, exclude))


@pytest.mark.slow  # torch in a process of its own
def test_triton_is_not_imported_by_the_other_implementations():
    import subprocess

    code = (
        "import sys, torch\n"
        "from nondecoupling.kernels import token_stats\n"
        "token_stats(torch.zeros(1, 2), torch.zeros(3, 2), torch.tensor([0]))\n"
        "ours = [m for m in sys.modules if m.startswith('nondecoupling.kernels.triton')]\n"
        "assert not ours, ours\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def derivatives_along(route):
    """Of both kernels along one direction of each of their heads' tensors: a function and where it is taken."""
    head, targets, exclude = inputs(torch.float64)
    other = head.moved(0.3).leaves()

    def both(hidden, weight, bias):
        moved = Model(hidden, weight, bias)
        stats = kernel_stats(moved, targets, exclude=exclude, impl=route)
        return sum(value.sum() for value in stats[:4]) + kernel_kl(other, moved, impl=route).sum()

    primals = tuple(tensor.detach() for tensor in head.tensors())
    return both, primals


def test_forward_mode_is_the_reference_s_or_refused():
    """The operators would drop tangents, and say that every derivative is 0."""
    both, primals = derivatives_along("reference")
    torch.manual_seed(0)
    along = tuple(torch.randn_like(tensor) for tensor in primals)
    leaves = [tensor.clone().requires_grad_() for tensor in primals]
    expected = sum(
        (gradient * direction).sum()
        for gradient, direction in zip(
            torch.autograd.grad(derivatives_along("chunked")[0](*leaves), leaves),
            along,
            strict=True,
        )
    )
    torch.testing.assert_close(torch.func.jvp(both, primals, along)[1], expected)
    chunked, _ = derivatives_along("chunked")
    for transformed in (
        lambda: torch.func.jvp(chunked, primals, along),
        lambda: torch.func.jacfwd(chunked)(*primals),
        lambda: torch.func.linearize(chunked, *primals),
        # An outer transform's tangent is not one of the inner's.
        lambda: torch.func.jvp(
            lambda *outer: torch.func.jvp(lambda x: x * chunked(*outer), *[(along[2],)] * 2)[1],
            primals,
            along,
        ),
    ):
        with pytest.raises(NotImplementedError, match=r"forward mode .* impl='reference' alone"):
            transformed()


@pytest.mark.parametrize("place", range(6))
def test_forward_mode_is_refused_for_each_tensor_of_both_heads(place):
    head, targets, _ = inputs()
    tensors = [
        tensor.detach()
        for tensor in (*head.tensors(), *head.moved(0.3).to(torch.float32).tensors())
    ]
    with torch.autograd.forward_ad.dual_level():
        duals = list(tensors)
        duals[place] = torch.autograd.forward_ad.make_dual(tensors[place], tensors[place])
        with pytest.raises(NotImplementedError, match="forward mode"):
            kernel_kl(Model(*duals[:3]), Model(*duals[3:]), impl="chunked")
        if place < 3:
            with pytest.raises(NotImplementedError, match="forward mode"):
                kernel_stats(Model(*duals[:3]), targets, impl="chunked")
        # What does not depend on the direction is as it was.
        kernel_kl(Model(*tensors[:3]), Model(*tensors[3:]), impl="chunked")
