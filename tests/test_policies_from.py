"""Laws from what people have: logits, probabilities, a language model's list of candidates."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.policies import AutoregressivePolicy, from_logits, from_probs, with_other

LISTED = np.log([[0.5, 0.2], [0.1, 0.1]])


def test_from_logits_takes_a_categorical():
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    categorical = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(from_logits(categorical), torch.log_softmax(logits, -1))
    torch.testing.assert_close(from_probs(categorical), torch.log_softmax(logits, -1))
    from_logits(categorical)[0, 0].backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def made_by(maker):
    return rf"policies\.{maker} makes log-probabilities of it"


@pytest.mark.parametrize(
    ("place", "from_logits_is", "from_probs_is"),
    [
        ("log_d", made_by("from_logits"), made_by("from_probs")),
        # A reward model's are the rewards.
        ("reward", r"give its \.logits as an array", r"give its \.probs as an array"),
    ],
)
def test_elsewhere_a_categorical_is_refused_with_the_remedy(place, from_logits_is, from_probs_is):
    """Also what has only one of .logits and .probs, as a model's output."""
    law = torch.distributions.Categorical(torch.tensor([0.5, 0.5]))
    output, shares = SimpleNamespace(logits=law.logits), SimpleNamespace(probs=law.probs)
    for given, said in ((law, from_logits_is), (output, from_logits_is), (shares, from_probs_is)):
        arguments = {"log_d": law.logits, "reward": torch.tensor([0.0, 1.0]), "beta": 1.0}
        with pytest.raises(ValueError, match=rf"{place}=.*it has \.\w+: {said}"):
            bounds.coupling_gap(**{**arguments, place: given})
    assert from_logits(output).tolist() == from_probs(shares).tolist() == law.logits.tolist()


def test_a_law_of_tokens_is_told_what_makes_one():
    with pytest.raises(ValueError, match=r"token_log_p\[\(\)\]=.*" + made_by("from_logits")):
        AutoregressivePolicy({(): SimpleNamespace(logits=[0.0, 1.0])})


def test_from_probs():
    law = from_probs([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(law, np.log([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"probs\[1\]: the probabilities sum to 0\.9"):
        from_probs([[0.5, 0.5], [0.5, 0.4]])
    with pytest.raises(ValueError, match=r"probs\[0\]=-0\.1: a probability is at least 0"):
        from_probs([-0.1, 1.1])


def test_with_other_is_the_rest_of_the_mass():
    law = with_other(LISTED)
    np.testing.assert_allclose(np.exp(law), [[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]], rtol=1e-14)
    given = with_other(LISTED, np.log([0.3, 0.8]))
    np.testing.assert_allclose(given, law, rtol=1e-14)
    assert np.exp(with_other([np.log(0.25), -np.inf]))[-1] == pytest.approx(0.75)


def test_with_other_keeps_gradients_and_a_full_list():
    listed = torch.tensor(LISTED, requires_grad=True)
    with_other(listed)[:, -1].sum().backward()
    # d log(1 - s)/d log p = -p/(1 - s)
    torch.testing.assert_close(
        listed.grad, -torch.tensor(LISTED).exp() / torch.tensor([[0.3], [0.8]])
    )
    full = with_other(np.log([0.5, 0.5]))
    assert full[-1] == -np.inf


def test_with_other_refuses_too_much_mass():
    with pytest.raises(ValueError, match=r"log_listed\[1\]: the probabilities sum to 1\.2"):
        with_other(np.log([[0.5, 0.2], [0.6, 0.6]]))
    with pytest.raises(ValueError, match=r"log_listed and log_rest\[0\].*sum to 0\.8"):
        with_other(LISTED, np.log([0.1, 0.8]))


@pytest.mark.parametrize(
    ("entries", "remedy"),
    [
        ([0.25, 0.75], r"look like probabilities: policies\.from_probs"),
        (np.log([0.5, 0.2]), r"candidates.*policies\.with_other"),
        ([1.0, 2.0], r"policies\.from_logits makes them of logits"),
        ([-50.0, -60.0], r"policies\.with_other; if they are logits: policies\.from_logits"),
    ],
)
def test_a_row_that_does_not_sum_to_one_is_told_the_right_remedy(entries, remedy):
    with pytest.raises(ValueError, match=remedy):
        bounds.entropy(entries)


def test_the_wrong_remedy_gives_another_number():
    """The list of candidates renormalised has another coupling gap than the law that it belongs to."""
    listed, reward = np.log([0.5, 0.2]), np.array([0.0, 2.0])
    right = bounds.coupling_gap(with_other(listed), np.append(reward, 0.0), 1.0)
    assert bounds.coupling_gap(from_logits(listed), reward, 1.0) > 1.1 * right


def test_with_other_names_what_is_wrong_with_one_list():
    with pytest.raises(ValueError, match=r"log_listed: the probabilities sum to 1\.1, not one"):
        with_other(np.log([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"log_listed\[1, 0\]: the probabilities sum to 1\.1"):
        with_other(np.log([[[0.5, 0.1]], [[0.5, 0.6]]]))
    with pytest.raises(ValueError, match=r"log_rest \(2,\): one number for each list"):
        with_other(np.log([0.5, 0.2]), np.log([0.3, 0.3]))


def test_with_other_has_a_gradient_where_nothing_is_listed():
    listed = torch.full((2,), -torch.inf, dtype=torch.float64, requires_grad=True)
    with_other(listed)[-1].backward()
    assert listed.grad.tolist() == [0.0, 0.0]
