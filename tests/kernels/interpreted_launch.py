"""What only the Triton launcher does; run by ``test_triton_interpreter.py`` in an interpreter process."""

import pytest
import torch
from kernel_cases import EPS32, Model, gradients, kernel_stats
from test_token_kl import check_three_ways as check_kl
from test_token_stats import check_three_ways as check_stats
from test_token_stats import tokens_for

from nondecoupling.kernels import token_stats, triton_kernels, triton_launch


def test_this_process_runs_the_interpreter(impl):
    assert impl == "triton"
    assert type(triton_kernels.stats_forward).__name__ == "InterpretedFunction"


@pytest.mark.parametrize("splits", [1, 2, 5])
def test_partials_of_any_number_of_splits_agree(impl, splits, monkeypatch):
    head = Model.random(5, 1000, 7, bias=True)
    targets, exclude = tokens_for(head)

    def split(tokens, vocabulary, tile, device):
        columns = -(-vocabulary // splits // tile.columns + 1) * tile.columns
        return -(-vocabulary // columns), columns

    monkeypatch.setattr(triton_launch, "_splits", split)
    check_stats(impl, head, targets, exclude, torch.float32, {})
    check_kl(impl, head, head.moved(0.1), torch.float32, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_backward_in_several_chunks(impl, dtype, monkeypatch):
    monkeypatch.setattr(triton_launch, "BUFFER_BYTES", 1)
    head = Model.random(3, 300, 5, bias=True)
    targets, exclude = tokens_for(head)
    check_stats(impl, head, targets, exclude, dtype, {"softcap": 10.0})
    check_kl(impl, head, head.moved(0.1), dtype, {"softcap": 10.0})


def test_chunks_change_nothing(impl, monkeypatch):
    head = Model.random(6, 300, 5, bias=True).to(torch.float32)
    targets, exclude = tokens_for(head)
    results = []
    for size in (1 << 26, 1):
        monkeypatch.setattr(triton_launch, "BUFFER_BYTES", size)
        leaves = head.leaves()
        stats = kernel_stats(leaves, targets, exclude, impl=impl)
        results.append(gradients(stats, torch.ones(4, 6), leaves))
    for one, several in zip(*results, strict=True):
        assert torch.allclose(one, several, atol=32 * EPS32)


def test_a_dominant_logit_in_any_tile(impl):
    """The number of logits at the running maximum moves into the mass when a later tile raises it."""
    for position in (0, 128, 699):
        head = Model.random(2, 700, 3, bias=True)
        head.bias[position] += 14.0
        head.bias[(position + 350) % 700] += 9.0
        check_stats(impl, head, torch.full((2,), position), None, torch.float32, {})


def test_equal_logits_everywhere(impl):
    stats = token_stats(torch.zeros(2, 3), torch.zeros(700, 3), torch.tensor([5, 699]), impl=impl)
    expected = torch.tensor(700.0).log()
    for value, want in ((stats.logprob, -expected), (stats.logsumexp, expected)):
        assert torch.allclose(value, want.expand(2), atol=4 * EPS32)
    assert torch.allclose(stats.entropy, expected.expand(2), atol=4 * EPS32)
