"""What several processes share, and how the loss of one is told from an error of one's own."""

import numpy as np
import pytest
import torch

from nondecoupling.lm import ProcessesError
from nondecoupling.lm.processes import Processes


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.distributed.DistNetworkError("The client socket has failed"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
    ],
)
def test_only_the_network_says_that_others_are_lost(error, lost):
    several = Processes()
    assert not several.lost_others(error)  # there are no others
    several.count = 2
    assert several.lost_others(error) is lost


def test_a_batch_that_cannot_be_shared_is_an_error():
    three = Processes()
    three.count = 3
    with pytest.raises(
        ProcessesError, match="--sft-batch is 16, which 3 processes cannot share evenly"
    ):
        three.share_of(16, "--sft-batch")


def test_shares_are_disjoint_and_everything():
    items, array = list("abcdefg"), np.arange(14).reshape(7, 2)
    shares = []
    for rank in range(3):
        one = Processes()
        one.count, one.rank = 3, rank
        shares.append(one.share(items))
        np.testing.assert_array_equal(one.share(array), array[rank::3])
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Processes().together_list(items) == items
