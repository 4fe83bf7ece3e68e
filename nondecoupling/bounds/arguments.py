"""What the public API checks before it computes: errors name the argument, the value, the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat
import numpy as np

from nondecoupling.bounds.arrays import TensorLike
from nondecoupling.numbers.floats import Floats, floats_of

# Rows are worked through in blocks of about this many numbers, so that temporaries stay in cache.
BLOCK_NUMBERS = 32_768


def _is_torch(x: Any) -> bool:
    return array_api_compat.is_torch_array(x)


def _at(index: tuple[int, ...], name: str) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _first(bad: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(np.asarray(bad))[0])


def _as_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if _is_torch(x) else np.asarray(x)


class Arguments:
    """Validated arguments of one call, broadcast to a common batch shape.

    ``full_support`` names laws that must not miss a response; ``inside={"log_d": "log_ref"}`` asks for
    d << ref. ``shares`` lie between 0 and 1, ``whole`` are counts. Where there are only scalars, the batch
    is what they broadcast to.
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
        inside: Mapping[str, str] | None = None,
    ) -> None:
        laws, scalars = dict(laws or {}), dict(scalars or {})
        per_response = {**laws, **(reals or {})}
        lead_name, lead = next(iter({**per_response, **scalars}.items()))
        torch_names = [n for n, v in {**per_response, **scalars}.items() if _is_torch(v)]
        if torch_names:
            lead_name = torch_names[0]
            lead = {**per_response, **scalars}[lead_name]
        else:
            lead = np.asarray(lead)
        self.module = array_api_compat.array_namespace(lead)
        self.device = array_api_compat.device(lead)
        self.dtype = self._common_dtype(lead_name, lead, {**per_response, **scalars})
        self.arrays = {n: self._array(n, v) for n, v in {**per_response, **scalars}.items()}
        for name in per_response:
            if self.arrays[name].ndim == 0:
                raise ValueError(f"{name}: a scalar, but the last axis must list the responses")
        self.laws, self.scalars = tuple(laws), tuple(scalars)
        self._check_shapes(tuple(per_response))
        for name in (*(reals or {}), *scalars):
            self._check_finite(name)
        for name in positive:
            self.refuse(name, self.arrays[name] <= 0, "positive")
        for name in nonnegative:
            self.refuse(name, self.arrays[name] < 0, "nonnegative")
        for name in shares:
            outside = (self.arrays[name] < 0) | (self.arrays[name] > 1)
            self.refuse(name, outside, "a share, between 0 and 1")
        for name in whole:
            value = self.arrays[name]
            counts = (value >= 1) & (value == self.module.floor(value))
            self.refuse(name, ~counts, "a whole number, at least 1")
        for name in full_support:
            self._check_support(name, ~self._misses(name), "full support is assumed")
        for name, outer in (inside or {}).items():
            fine = self._misses(name) | ~self._misses(outer)
            self._check_support(
                outer, fine, f"{name} has mass there, but {name} << {outer} is assumed"
            )

    def _common_dtype(self, lead_name: str, lead: Any, values: Mapping[str, Any]) -> Any:
        floating = {
            name: value.dtype
            for name, value in values.items()
            if hasattr(value, "dtype") and "float" in str(value.dtype) and np.ndim(value) > 0
        }
        for name, dtype in floating.items():
            if "float16" in str(dtype) or "float8" in str(dtype):
                raise ValueError(f"{name}.dtype={dtype}: convert to float32 or float64 first")
        kinds = {str(dtype).removeprefix("torch.") for dtype in floating.values()}
        if len(kinds) > 1:
            shown = ", ".join(f"{n}: {d}" for n, d in floating.items())
            raise ValueError(f"dtypes differ ({shown}): convert all arguments to one of them")
        return getattr(self.module, kinds.pop() if kinds else "float64")

    def _array(self, name: str, value: Any) -> Any:
        if _is_torch(value) and array_api_compat.device(value) != self.device:
            raise ValueError(f"{name} is on {value.device}, others on {self.device}: use .to()")
        if _is_torch(value) and value.dtype == self.dtype:
            return value
        try:
            return self.module.asarray(value, dtype=self.dtype, device=self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{name}={value!r}: not a real array ({error})") from None

    def like(self, value: Any) -> Any:
        """``value`` as an array of the common module, dtype and device; gradients are kept."""
        return self._array("value", value)

    def _check_shapes(self, per_response: tuple[str, ...]) -> None:
        shapes = {name: tuple(self.arrays[name].shape) for name in per_response}
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        lengths = {shape[-1] for shape in shapes.values()}
        if per_response and (len(lengths) != 1 or 0 in lengths):
            raise ValueError(
                f"shapes {shown}: the last axis lists the responses and must agree, with at "
                "least one response"
            )
        try:
            batch = np.broadcast_shapes(
                *(shape[:-1] for shape in shapes.values()),
                *(tuple(self.arrays[name].shape) for name in self.scalars),
            )
        except ValueError:
            scalars = ", ".join(f"{n} {tuple(self.arrays[n].shape)}" for n in self.scalars)
            raise ValueError(
                f"shapes {'; '.join(filter(None, (shown, scalars)))}: leading axes are the batch "
                "and must broadcast; per-world numbers such as beta have the batch shape itself"
            ) from None
        self.batch = batch
        n = next(iter(lengths), 1)
        for name in self.arrays:
            array = self.arrays[name]
            if name in self.scalars:
                array = self.module.broadcast_to(array, batch)[..., None]
            else:
                array = self.module.broadcast_to(array, (*batch, n))
            self.arrays[name] = array.reshape(-1, array.shape[-1])

    def _index(self, row: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(row, self.batch)) if self.batch else ()

    def _check_finite(self, name: str) -> None:
        array = self.arrays[name]
        if bool(self.module.isfinite(self.module.sum(array))):
            return
        bad = ~np.isfinite(_as_numpy(array))
        if not bad.any():
            return  # a sum of finite numbers that overflowed
        row, column = _first(bad)
        value = float(_as_numpy(array)[row, column])
        index = self._index(row) if name in self.scalars else (*self._index(row), column)
        raise ValueError(f"{_at(index, name)}={value}: must be a finite number")

    def refuse(self, name: str, wrong: Any, wanted: str) -> None:
        """An error that names the first value of a scalar that is wrong, and what it must be."""
        bad = _as_numpy(wrong)
        if bad.any():
            row, _ = _first(bad)
            value = float(_as_numpy(self.arrays[name])[row, 0])
            raise ValueError(f"{_at(self._index(row), name)}={value}: must be {wanted}")

    def _misses(self, name: str) -> Any:
        return self.arrays[name] == -math.inf

    def _check_support(self, name: str, fine: Any, why: str) -> None:
        if bool(self.module.all(fine)):
            return
        row, column = _first(_as_numpy(~fine))
        raise ValueError(
            f"{_at((*self._index(row), column), name)}=-inf: {why}; leave such responses out, or give "
            f"{name} some mass on them"
        )

    def check_law(self, xp: Floats, name: str, block: Any, first_row: int) -> None:
        """Rows of log-probabilities must sum to one within sqrt(eps) of their dtype."""
        total = xp.sum(xp.exp(block))
        tolerance = float(self.module.finfo(self.dtype).eps) ** 0.5
        fine = xp.abs(total - 1) <= tolerance
        if bool(self.module.all(fine)):
            return
        row, _ = _first(_as_numpy(~fine))
        index, value = self._index(first_row + row), float(_as_numpy(total)[row, 0])
        entries = _as_numpy(block)[row]
        if np.isnan(entries).any():
            column = int(np.argmax(np.isnan(entries)))
            raise ValueError(f"{_at((*index, column), name)} is NaN: give log-probabilities")
        raise ValueError(
            f"{_at(index, name)}: the probabilities sum to {value:.9g}, not one (tolerance "
            f"{tolerance:.1g}); give log-probabilities, normalised (log_softmax of the logits)"
        )

    def all_rows(self, function: Callable[..., Any]) -> Any:
        """``function(xp, **arrays)`` on all rows at once, for what is not computed row by row."""
        xp = floats_of(next(iter(self.arrays.values())))
        with np.errstate(all="ignore"):
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
        xp = floats_of(next(iter(self.arrays.values())))
        rows, n = next(iter(self.arrays.values())).shape
        size = max(1, BLOCK_NUMBERS // max(n, numbers_per_row))
        pieces = []
        for start in range(0, max(rows, 1), size):
            block = {name: array[start : start + size] for name, array in self.arrays.items()}
            with np.errstate(all="ignore"):  # branches not taken may overflow or meet 0 * inf
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
    return Arguments(
        laws=laws, reals={"reward": reward}, scalars={"beta": beta}, positive=("beta",), **checks
    )
