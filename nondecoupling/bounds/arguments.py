"""What the public API checks before it computes: errors name the argument, the value, the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np

from nondecoupling.bounds.arrays import MaskLike, TensorLike
from nondecoupling.bounds.checks import about_values
from nondecoupling.bounds.reading import common_kind, read, read_mask, require_known
from nondecoupling.numbers.floats import BLOCK_NUMBERS, Floats, detached, is_torch
from nondecoupling.numbers.number_system import Array, Mask


def _at(index: tuple[int, ...], name: str) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(np.asarray(bad))[0])


def _as_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if is_torch(x) else np.asarray(x)


def _all(mask: Any) -> bool:
    return bool(mask.all())


def _remedy(entries: np.ndarray) -> str:
    """What a row that sums to something else may be, and what makes a law of it."""
    if entries.min() >= 0 and abs(entries.sum() - 1) < 1e-3:
        return "these look like probabilities: policies.from_probs makes log-probabilities of them"
    if np.exp(entries).sum() < 1:
        return (
            "if they are a language model's candidates, the rest of its mass is a response too: "
            "policies.with_other; if they are logits: policies.from_logits"
        )
    return "give log-probabilities, normalised: policies.from_logits makes them of logits"


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """As NumPy's, which torch's compiler does not know."""
    shapes = tuple(shape for shape in shapes if shape)  # a number goes with every shape
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0] if shapes else ()
    longest = max(len(shape) for shape in shapes)
    padded = [(1,) * (longest - len(shape)) + tuple(shape) for shape in shapes]
    joint = []
    for sizes in zip(*padded, strict=True):
        others = {size for size in sizes if size != 1}
        if len(others) > 1:
            raise ValueError(f"sizes {sorted(others)} do not broadcast")
        joint.append(others.pop() if others else 1)
    return tuple(joint)


def _quiet(xp: Floats) -> AbstractContextManager[Any]:
    """NumPy's warnings off; torch has none, and its compiler does not know them."""
    return np.errstate(all="ignore") if xp.module.__name__.endswith("numpy") else nullcontext()


class Arguments:
    """Validated arguments of one call, broadcast to a common batch shape.

    ``full_support`` names laws that must not miss a response; ``inside={"log_d": "log_ref"}`` asks for
    d << ref. The range of a real must have a square, unless it is of ``any_size``.
    ``shares`` lie between 0 and 1, ``whole`` are counts. Where there are only scalars, the batch
    is what they broadcast to. Responses where ``mask`` is false count for nothing: laws lose them, and a real
    gets the least value that counts. So do those that the law ``sampled`` misses, for what never meets them.
    """

    def __init__(
        self,
        *,
        laws: Mapping[str, TensorLike] | None = None,
        reals: Mapping[str, TensorLike] | None = None,
        scalars: Mapping[str, TensorLike] | None = None,
        positive: tuple[str, ...] = (),
        nonnegative: tuple[str, ...] = (),
        shares: tuple[str, ...] = (),
        whole: tuple[str, ...] = (),
        full_support: tuple[str, ...] = (),
        any_size: tuple[str, ...] = (),
        may_be_infinite: tuple[str, ...] = (),
        inside: Mapping[str, str] | None = None,
        mask: MaskLike | None = None,
        sampled: str | None = None,
    ) -> None:
        laws, scalars = dict(laws or {}), dict(scalars or {})
        per_response = {**laws, **(reals or {})}
        given = {**per_response, **scalars}
        self.kind = common_kind(given)
        self.module, self.device, self.dtype = self.kind
        self.arrays = {name: read(name, value, self.kind) for name, value in given.items()}
        for name in per_response:
            if self.arrays[name].ndim == 0:
                raise ValueError(f"{name}: a scalar, but the last axis must list the responses")
        self.laws, self.scalars = tuple(laws), tuple(scalars)
        self._found_ends: dict[str, tuple[float, float]] = {}
        if mask is not None:
            self._leave_out(~read_mask(mask, self.kind), tuple(per_response))
        self._check_shapes(tuple(per_response))
        if sampled is not None:
            self._leave_out_missed(sampled, tuple(reals or {}))
        for name in (*(reals or {}), *scalars):
            if name in may_be_infinite:
                continue
            if name in scalars or name in any_size:
                self._check_finite(name)
            else:
                self._check_range(name)
        for name in positive:
            self._check_interval(name, lambda x: x > 0, "positive")
        for name in nonnegative:
            self._check_interval(name, lambda x: x >= 0, "nonnegative")
        for name in shares:
            self._check_interval(name, lambda x: (x >= 0) & (x <= 1), "a share, between 0 and 1")
        for name in whole:
            value = self.arrays[name]
            counts = (value >= 1) & (value == self.module.floor(value))
            self.refuse(name, ~counts, "a whole number, at least 1")
        for name in full_support:
            self._check_full_support(name)
        for name, outer in (inside or {}).items():
            fine = self._misses(name) | ~self._misses(outer)
            self._check_support(
                outer, fine, f"{name} has mass there, but {name} << {outer} is assumed"
            )

    def like(self, name: str, value: TensorLike) -> Any:
        """Another argument, as an array of the common library, dtype and device."""
        require_known(name, value)
        return read(name, value, self.kind)

    def replace_arrays(self, **arrays: Any) -> Self:
        """Others made of them, all of one shape ``[..., n]``, in the place of laws, reals and scalars; not checked."""
        shape = tuple(next(iter(arrays.values())).shape)
        self.laws, self.scalars, self._found_ends, self.batch = (), (), {}, shape[:-1]
        self.arrays = {name: array.reshape(-1, shape[-1]) for name, array in arrays.items()}
        return self

    def _leave_out(self, out: Any, per_response: tuple[str, ...]) -> None:
        """Give what is padding no mass, and the least value that counts."""
        for name in per_response:
            array = self.arrays[name]
            try:
                shape = broadcast_shapes(tuple(out.shape), tuple(array.shape))
            except ValueError:
                shape = ()
            if shape != tuple(array.shape):
                raise ValueError(
                    f"mask {tuple(out.shape)}, {name} {tuple(array.shape)}: the mask has the shape of the "
                    "responses, or broadcasts to it"
                )
            if name in self.laws:
                nothing = self.module.full_like(array, -math.inf)
                self.arrays[name] = self.module.where(out, nothing, array)
            else:
                self.arrays[name] = self._least_where(out, array)
        self._check_rows(out)

    def _least_where(self, out: Any, array: Any) -> Any:
        """The numbers, and in their place where ``out`` is true the least of the others in the row."""
        kept = self.module.where(out, self.module.full_like(array, math.inf), array)
        return self.module.where(out, self.module.min(kept, axis=-1, keepdims=True), array)

    def _leave_out_missed(self, law: str, reals: tuple[str, ...]) -> None:
        missed = self._misses(law)
        # A law without any mass is refused as such.
        missed = missed & ~self.module.all(missed, axis=-1, keepdims=True)
        for name in reals:
            self._check_finite(name)
            self.arrays[name] = self._least_where(missed, self.arrays[name])
            self._found_ends.pop(name, None)

    @about_values
    def _check_rows(self, out: Any) -> None:
        if bool(self.module.any(self.module.all(out, axis=-1))):
            raise ValueError("mask: a row without any response; at least one must count")

    def _check_shapes(self, per_response: tuple[str, ...]) -> None:
        shapes = {name: tuple(self.arrays[name].shape) for name in per_response}
        lengths = {shape[-1] for shape in shapes.values()}
        if per_response and (len(lengths) != 1 or 0 in lengths):
            shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ValueError(
                f"shapes {shown}: the last axis lists the responses and must agree, with at "
                "least one response"
            )
        scalars = {name: tuple(self.arrays[name].shape) for name in self.scalars}
        try:
            batch = broadcast_shapes(*(shape[:-1] for shape in shapes.values()))
            if batch and any(shape and len(shape) != len(batch) for shape in scalars.values()):
                raise ValueError("an axis too many or too few")
            batch = broadcast_shapes(batch, *scalars.values())
        except ValueError:
            shown = ", ".join(f"{name} {shape}" for name, shape in {**shapes, **scalars}.items())
            raise ValueError(
                f"shapes {shown}: leading axes are the batch and must broadcast; a number of the "
                "world, such as beta, is a scalar or has as many axes as the batch. For a grid over a batch "
                "give the arrays a leading axis of one: log_d[None]"
            ) from None
        self.batch = batch
        n = next(iter(lengths), 1)
        for name in self.arrays:
            array = self.arrays[name]
            shape = batch if name in self.scalars else (*batch, n)
            if tuple(array.shape) != shape:
                array = self.module.broadcast_to(array, shape)
            self.arrays[name] = array.reshape(-1, 1 if name in self.scalars else n)

    def _index(self, row: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(row, self.batch)) if self.batch else ()

    @about_values
    def _check_finite(self, name: str) -> None:
        if all(math.isfinite(end) for end in self._ends(name)):
            return
        values = _as_numpy(self.arrays[name])
        row, column = _first(~np.isfinite(values))
        value = float(values[row, column])
        index = self._index(row) if name in self.scalars else (*self._index(row), column)
        raise ValueError(f"{_at(index, name)}={value}: must be a finite number")

    @about_values
    def _check_range(self, name: str) -> None:
        """Numbers of each row are finite, and their range has a square."""
        low, high = self._ends(name)
        if high - low <= self._largest:  # of all rows together, so of each
            return
        spread = self._spread(name)
        if _all(spread <= self._largest):
            return
        self._check_finite(name)
        row, _ = _first(_as_numpy(~(spread <= self._largest)))
        raise ValueError(
            f"{_at(self._index(row), name)}: its range {float(_as_numpy(spread)[row, 0]):.3g} is over "
            f"{self._largest:.1g}, beyond which {self._precision} overflows; change the unit"
        )

    def _ends(self, name: str) -> tuple[float, float]:
        """The least and the largest number of an array, NaN if it has one; without rows ones, which nothing refuses."""
        if name not in self._found_ends:
            array: Any = detached(self.arrays[name])
            none = array.shape[0] == 0
            ends = (1.0, 1.0) if none else (float(array.min()), float(array.max()))
            self._found_ends[name] = ends
        return self._found_ends[name]

    def _spread(self, name: str) -> Any:
        """max - min of each row, [rows, 1]."""
        array = self.arrays[name]
        top = self.module.max(array, axis=-1, keepdims=True)
        bottom = self.module.min(array, axis=-1, keepdims=True)
        with np.errstate(all="ignore"):
            return top - bottom

    @property
    def _precision(self) -> str:
        return f"float{self.module.finfo(self.dtype).bits}"

    @property
    def _largest(self) -> float:
        return float(self.module.finfo(self.dtype).max) ** 0.5

    @about_values
    def check_product(
        self, real: str, *scalars: str, inverse: bool = False, squared: bool = True
    ) -> None:
        """The range of a real times (or over) a positive number, or a sum of some, of the world is a number.

        Where the formula squares it, so that its square is one too.
        """
        low, high = self._ends(real)
        ends = [self._ends(scalar) for scalar in scalars]
        least, most = sum(end[0] for end in ends), sum(end[1] for end in ends)
        reach, limit = high - low, self._limit(squared)
        if (reach <= limit * least) if inverse else (reach * most <= limit):
            return
        factor = sum(self.arrays[scalar] for scalar in scalars)
        with np.errstate(all="ignore"):
            size = self._spread(real) / factor if inverse else self._spread(real) * factor
        how = f"the range of {real} {'over' if inverse else 'times'} it"
        name = " + ".join(scalars)
        self._refuse_beyond(limit, size, name, factor, how, larger=inverse)

    @about_values
    def check_quotient(self, scalar: str, divisor: str, *, blame: str) -> None:
        """A number of the world over a positive one is a number; ``blame`` is the one of them to change."""
        with np.errstate(all="ignore"):
            size = abs(self.arrays[scalar] / self.arrays[divisor])
        how = f"it over {divisor}" if blame == scalar else f"{scalar} over it"
        limit, value = self._limit(squared=False), self.arrays[blame]
        self._refuse_beyond(limit, size, blame, value, how, larger=blame == divisor)

    @about_values
    def check_inverse(self, scalar: str) -> None:
        """One over a positive number of the world is a number."""
        value = self.arrays[scalar]
        with np.errstate(all="ignore"):
            size = 1 / value
        limit = self._limit(squared=False)
        self._refuse_beyond(limit, size, scalar, value, "one over it", larger=True)

    @about_values
    def check_square(self, scalar: str) -> None:
        """The square of a number of the world is a number."""
        value = self.arrays[scalar]
        self._refuse_beyond(self._largest, value, scalar, value, "it", larger=False)

    def _limit(self, squared: bool) -> float:
        """What a number may be at most that is squared, or added to a few others of its size."""
        return self._largest if squared else float(self.module.finfo(self.dtype).max) / 8

    def _refuse_beyond(
        self, limit: float, size: Any, name: str, value: Any, how: str, *, larger: bool
    ) -> None:
        """Fail where ``size``, [rows, 1], is over the limit, by the value that makes it so large."""
        fine = size <= limit
        if _all(fine):
            return
        row, _ = _first(_as_numpy(~fine))
        raise ValueError(
            f"{_at(self._index(row), name)}={float(_as_numpy(value)[row, 0]):.3g}: {how} is beyond "
            f"{limit:.1g}, where {self._precision} overflows; choose a {'larger' if larger else 'smaller'} {name}"
        )

    @about_values
    def check_least(self, law: str, why: str) -> None:
        """No probability of the law is below the smallest normal number."""
        smallest = math.log(float(self.module.finfo(self.dtype).smallest_normal))
        if self._ends(law)[0] >= smallest:
            return
        less = self.arrays[law] < smallest
        if bool(self.module.any(less)):
            row, column = _first(_as_numpy(less))
            value = float(_as_numpy(self.arrays[law])[row, column])
            raise ValueError(
                f"{_at((*self._index(row), column), law)}={value:.6g}: {why}, which {self._precision} does not hold"
            )

    @about_values
    def _check_interval(self, name: str, inside: Callable[[Any], Any], wanted: str) -> None:
        """All numbers are inside of an interval if the least and the largest are."""
        if not all(inside(end) for end in self._ends(name)):
            self.refuse(name, ~inside(self.arrays[name]), wanted)

    @about_values
    def refuse(self, name: str, wrong: Mask, wanted: str) -> None:
        """Fail if a number is wrong somewhere, by its place and with what is wanted instead."""
        bad = _as_numpy(wrong)
        if bad.any():
            row, _ = _first(bad)
            value = float(_as_numpy(self.arrays[name])[row, 0])
            raise ValueError(f"{_at(self._index(row), name)}={value}: must be {wanted}")

    def _misses(self, name: str) -> Mask:
        return self.arrays[name] == -math.inf

    @about_values
    def _check_full_support(self, name: str) -> None:
        if not self._ends(name)[0] > -math.inf:
            self._check_support(name, ~self._misses(name), "full support is assumed")

    @about_values
    def _check_support(self, name: str, fine: Mask, why: str) -> None:
        if _all(fine):
            return
        row, column = _first(_as_numpy(~fine))
        raise ValueError(
            f"{_at((*self._index(row), column), name)}=-inf: {why}; leave such responses out, or give "
            f"{name} some mass on them"
        )

    @about_values
    def check_law(self, xp: Floats, name: str, block: Array, first_row: int) -> None:
        """Rows of log-probabilities must sum to one within sqrt(eps) of their dtype."""
        total = xp.sum(xp.exp(block))
        fine = self._is_one(xp, total)
        if _all(fine):
            return
        row, _ = _first(_as_numpy(~fine))
        entries = _as_numpy(block)[row]
        if np.isnan(entries).any():
            index = (*self._index(first_row + row), int(np.argmax(np.isnan(entries))))
            raise ValueError(f"{_at(index, name)} is NaN: give log-probabilities")
        self.check_mass(xp, name, total, _remedy(entries), first_row)

    @about_values
    def check_mass(
        self, xp: Floats, name: str, total: Array, remedy: str, first_row: int = 0
    ) -> None:
        """The masses of rows, [rows, 1], are one within sqrt(eps) of their dtype."""
        fine = self._is_one(xp, total)
        if _all(fine):
            return
        row = int(np.flatnonzero(_as_numpy(~fine))[0])
        value = float(_as_numpy(total).reshape(-1)[row])
        raise ValueError(
            f"{_at(self._index(first_row + row), name)}: the probabilities sum to {value:.9g}, not one "
            f"(tolerance {self._mass_tolerance:.1g}); {remedy}"
        )

    @property
    def _mass_tolerance(self) -> float:
        return float(self.module.finfo(self.dtype).eps) ** 0.5

    def _is_one(self, xp: Floats, total: Array) -> Mask:
        return xp.abs(total - 1) <= self._mass_tolerance

    @about_values
    def refuse_entries(self, name: str, wrong: Mask, why: str) -> None:
        """Fail if an entry of an array is wrong, by its place."""
        bad = _as_numpy(wrong)
        if bad.any():
            row, column = _first(bad)
            value = float(_as_numpy(self.arrays[name])[row, column])
            raise ValueError(f"{_at((*self._index(row), column), name)}={value}: {why}")

    def all_rows(self, function: Callable[..., Any]) -> Any:
        """``function(xp, **arrays)`` on all rows at once, for what is not computed row by row."""
        xp = Floats(self.module)
        with _quiet(xp):
            for name in self.laws:
                self.check_law(xp, name, self.arrays[name], 0)
            return function(xp, **self.arrays)

    def map(
        self,
        function: Callable[..., Any],
        *,
        keeps_responses: bool | tuple[bool, ...] = False,
        numbers_per_row: int = 1,
    ) -> Any:
        """Apply ``function(xp, **arrays)`` in cache-sized blocks and restore the batch shape.

        ``function`` returns one array or a tuple of arrays, of shape [rows, 1], or [rows, n] where
        ``keeps_responses`` says so, for all or for each. ``numbers_per_row`` is how many it works with in each row,
        where that is more than the responses.
        """
        xp = Floats(self.module)
        rows, n = next(iter(self.arrays.values())).shape
        size = max(1, BLOCK_NUMBERS // max(n, numbers_per_row))
        pieces = []
        for start in range(0, max(rows, 1), size):
            block = {name: array[start : start + size] for name, array in self.arrays.items()}
            with _quiet(xp):  # branches not taken may overflow or meet 0 * inf
                for name in self.laws:
                    self.check_law(xp, name, block[name], start)
                out = function(xp, **block)
            pieces.append(out if isinstance(out, tuple) else (out,))
        whole = [
            self.module.concat(list(part)) if len(part) > 1 else part[0]
            for part in zip(*pieces, strict=True)
        ]
        if isinstance(keeps_responses, bool):
            keeps_responses = (keeps_responses,) * len(whole)
        shaped = tuple(
            part.reshape((*self.batch, n) if keeps else self.batch)
            for part, keeps in zip(whole, keeps_responses, strict=True)
        )
        return shaped[0] if len(shaped) == 1 else shaped


def laws_only(**laws: TensorLike) -> Arguments:
    """Laws and nothing else."""
    return Arguments(laws=laws)


def tilted(
    laws: dict[str, TensorLike], reward: TensorLike, beta: TensorLike, **checks: Any
) -> Arguments:
    """Laws and a reward with the beta of RL."""
    arguments = Arguments(
        laws=laws, reals={"reward": reward}, scalars={"beta": beta}, positive=("beta",), **checks
    )
    arguments.check_product("reward", "beta", inverse=True)
    return arguments
