"""Finite policies in log space: from what people have, and autoregressive ones on token trees.

``from_logits``, ``from_probs`` and ``with_other`` make the log-probabilities that ``bounds`` takes.

A sequence law over a finite token tree is a finite law, so every statement applies to sequences;
``AutoregressivePolicy.sequence_law`` makes one from token laws, and F4 says that the divergence of
the sequences is the sum of the divergences of the tokens.

>>> import numpy as np
>>> half, skewed = np.log([0.5, 0.5]), np.log([0.25, 0.75])
>>> p = AutoregressivePolicy({(): half, (1,): skewed})  # token 0 ends the sequence
>>> p.tree.sequences
((0,), (1, 0), (1, 1))
>>> np.exp(p.sequence_law()).round(12).tolist()
[0.5, 0.125, 0.375]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.reading import Kind, common_kind, read, whole_number
from nondecoupling.formulas import laws
from nondecoupling.formulas.trees import Tokens, TokenTree, added
from nondecoupling.numbers.floats import Floats, floats_of
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Categorical

__all__ = ["AutoregressivePolicy", "TokenTree", "from_logits", "from_probs", "with_other"]


@overload
def from_logits(logits: ArrayLike) -> FloatArray: ...
@overload
def from_logits(logits: Tensor | Categorical) -> Tensor: ...
def from_logits(logits: TensorLike | Categorical) -> Result:
    """Log-probabilities of softmax(theta), in the dtype and on the device of ``logits``.

    Also of a ``torch.distributions.Categorical``. For a language model's *list of candidates* this is
    the wrong way: normalising forgets the responses that are not listed (``with_other``).

    Shapes: logits ``[..., n]`` -> ``[..., n]``. Errors: logits that are NaN or infinite.

    >>> import numpy as np
    >>> np.exp(from_logits(np.array([0.0, np.log(3.0)]))).round(12).tolist()
    [0.25, 0.75]
    """
    values: Any = getattr(logits, "logits", logits)
    return Arguments(reals={"logits": values}).map(laws.log_softmax, keeps_responses=True)


@overload
def from_probs(probs: ArrayLike) -> FloatArray: ...
@overload
def from_probs(probs: Tensor | Categorical) -> Tensor: ...
def from_probs(probs: TensorLike | Categorical) -> Result:
    """Log-probabilities of a law that is given by its probabilities, ``-inf`` for zero.

    Shapes: probs ``[..., n]`` -> ``[..., n]``. Errors: a negative entry; rows that do not sum to one.

    >>> from_probs([0.25, 0.75, 0.0]).round(4).tolist()
    [-1.3863, -0.2877, -inf]
    """
    values: Any = getattr(probs, "probs", probs)
    arguments = Arguments(reals={"probs": values})
    arguments.refuse_entries("probs", arguments.arrays["probs"] < 0, "a probability is at least 0")

    def logarithm(xp: Floats, probs: Array) -> Array:
        arguments.check_mass(xp, "probs", xp.sum(probs), "each row of probabilities sums to one")
        return laws.log_or_minus_infinity(xp, probs)

    return arguments.map(logarithm, keeps_responses=True)


@overload
def with_other(log_listed: ArrayLike, log_rest: ArrayLike | None = ...) -> FloatArray: ...
@overload
def with_other(log_listed: Tensor, log_rest: TensorLike | None = ...) -> Tensor: ...
def with_other(log_listed: TensorLike, log_rest: TensorLike | None = None) -> Result:
    """The law on some listed responses and one more atom, everything else, which comes last.

    What a language model says of a list of candidates: their log-probabilities sum to less than one. With
    a reward that is constant off the list every statement holds exactly for the whole law of responses.
    ``log_rest`` is log p(everything else) where the model gives it; without, log(1 - sum p), which loses
    its digits where the list has nearly all the mass.

    Shapes: log_listed ``[..., n]``, log_rest ``[...]`` -> ``[..., n + 1]``. Errors: rows that sum to more
    than one; with ``log_rest`` rows that do not sum to one together with it.

    >>> import numpy as np
    >>> np.exp(with_other(np.log([0.5, 0.2]))).round(12).tolist()
    [0.5, 0.2, 0.3]
    """
    listed = Arguments(reals={"log_listed": log_listed}, may_be_infinite=("log_listed",))
    module = listed.module
    values = module.reshape(listed.arrays["log_listed"], (*listed.batch, -1))
    if log_rest is not None:
        rest = listed.like("log_rest", log_rest)
        if tuple(rest.shape) not in ((), listed.batch):
            raise ValueError(
                f"log_rest {tuple(rest.shape)}: one number for each list, {listed.batch}, or one for all"
            )
        rest = module.broadcast_to(rest, listed.batch)[..., None]
        whole = module.concat([values, rest], axis=-1)
        return Arguments(laws={"log_listed and log_rest": whole}).map(
            lambda xp, **law: next(iter(law.values())), keeps_responses=True
        )
    xp = floats_of(values)
    log_mass = laws.log_sum_exp_of_some(xp, values)
    listed.check_mass(
        xp,
        "log_listed",
        xp.maximum(xp.exp(log_mass), 1.0),
        "listed probabilities sum to at most one",
    )
    left = -xp.expm1(xp.minimum(log_mass, 0.0))
    return module.concat([values, laws.log_or_minus_infinity(xp, left)], axis=-1)


class AutoregressivePolicy:
    """Token laws p(. | prefix), one array of log-probabilities ``[..., tokens]`` per prefix.

    ``token_log_p`` maps each prefix that goes on, from ``()``, to the law of the next token. A token
    that leads to no further prefix ends the sequence.

    Errors: ``ValueError`` for a missing ``()``, a prefix that no token leads to, laws that are not normalised
    (as in ``bounds``), and laws of different libraries, devices or dtypes.
    """

    def __init__(self, token_log_p: Mapping[Tokens, Any]) -> None:
        if () not in token_log_p:
            raise ValueError(
                "token_log_p: the law of the first token, at the prefix (), is missing"
            )
        self._kind = _kind_of_laws("token_log_p", token_log_p)
        self.token_log_p: dict[Tokens, Array] = {}
        for prefix in sorted(token_log_p, key=len):
            parent = self.token_log_p.get(prefix[:-1]) if prefix else None
            if prefix and (parent is None or not 0 <= prefix[-1] < parent.shape[-1]):
                raise ValueError(f"token_log_p[{prefix}]: no token of {prefix[:-1]} leads there")
            name = f"token_log_p[{prefix}]"
            law = token_log_p[prefix]
            if not hasattr(law, "dtype"):
                law = read(name, law, self._kind)
            self.token_log_p[prefix] = Arguments(laws={name: law}).map(
                lambda xp, **law: next(iter(law.values())), keeps_responses=True
            )
        self.tree = TokenTree(tuple(self._leaves(())))

    def _leaves(self, prefix: Tokens) -> list[Tokens]:
        if prefix not in self.token_log_p:
            return [prefix]
        tokens = range(self.token_log_p[prefix].shape[-1])
        return [leaf for token in tokens for leaf in self._leaves((*prefix, token))]

    def log_prob(self, sequence: Sequence[int]) -> Array:
        """log p of a sequence or a prefix: the sum of its tokens' log-probabilities, ``[...]``.

        Errors: ``ValueError`` for a token that its prefix does not have, and for one after the end.
        """
        first = self.token_log_p[()]
        total = floats_of(first).full_like(first[..., 0], 0.0)
        prefix: Tokens = ()
        for token in sequence:
            law = self.token_log_p.get(prefix)
            if law is None:
                raise ValueError(
                    f"sequence={tuple(sequence)}: {prefix} ends there; leave out what follows"
                )
            token = whole_number(f"sequence[{len(prefix)}]", token, 0)
            if token >= law.shape[-1]:
                raise ValueError(
                    f"sequence[{len(prefix)}]={token}: {prefix} has {law.shape[-1]} tokens; choose one from 0 to "
                    f"{law.shape[-1] - 1}"
                )
            total, prefix = total + law[..., token], (*prefix, token)
        return total

    def sequence_law(self) -> Array:
        """Log-probabilities of all sequences, ``[..., n]``, in the order of ``tree.sequences``."""
        module = floats_of(self.token_log_p[()]).module
        rows = [self.log_prob(sequence) for sequence in self.tree.sequences]
        return module.stack(list(module.broadcast_arrays(*rows)), axis=-1)

    def kl_divergence(self, other: AutoregressivePolicy) -> Array:
        """KL(p||q) of the sequences in nats, token by token: E_p sum_t KL(p(.|y_<t)||q(.|y_<t)).

        Shapes: ``[...]``. Errors: a policy on another tree, or of another library, device or dtype. Source: F4.

        >>> import numpy as np
        >>> half, skewed = np.log([0.5, 0.5]), np.log([0.25, 0.75])
        >>> p, q = (AutoregressivePolicy({(): half, (1,): law}) for law in (half, skewed))
        >>> float(p.kl_divergence(q))
        0.0719...
        """
        if self.token_log_p.keys() != other.token_log_p.keys() or self.tree != other.tree:
            raise ValueError(
                f"other: its sequences {other.tree.sequences} are not those of this policy, "
                f"{self.tree.sequences}"
            )
        if self._kind != other._kind:
            raise ValueError(
                f"other: its laws are {_described(other._kind)}, those of this policy {_described(self._kind)}; "
                "convert one of them"
            )
        xp = floats_of(self.token_log_p[()])
        terms = []
        for prefix, law in self.token_log_p.items():
            reached = xp.exp(self.log_prob(prefix))
            divergence = laws.kl_divergence(xp, law, other.token_log_p[prefix])[..., 0]
            # A prefix that p never reaches costs nothing, even where the token laws are disjoint.
            terms.append(xp.where(reached > 0, reached * divergence, 0.0))
        return added(terms)


def _kind_of_laws(name: str, laws: Mapping[Tokens, Any]) -> Kind:
    """The library, device and dtype of all the laws; lists take those of the others."""
    typed = {prefix: law for prefix, law in laws.items() if hasattr(law, "dtype")} or laws
    first = next(iter(typed))
    kinds = {prefix: common_kind({f"{name}[{prefix}]": law}) for prefix, law in typed.items()}
    for prefix, kind in kinds.items():
        if kind != kinds[first]:
            raise ValueError(
                f"{name}[{prefix}]: {_described(kind)}, but {name}[{first}] is {_described(kinds[first])}; "
                "convert one of them"
            )
    return kinds[first]


def _described(kind: Kind) -> str:
    library = kind.module.__name__.rpartition(".")[2]
    return f"{library} float{kind.module.finfo(kind.dtype).bits} on {kind.device}"
