"""The types of arrays that the public API takes and returns: NumPy's in, NumPy's out; torch's in, torch's out.

A function returns torch tensors if one of its arguments is a tensor. A type checker sees that for the
argument that comes first, which is why each function has two signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

FloatArray: TypeAlias = NDArray[np.floating[Any]]
"""What functions return for NumPy arguments: float32 or float64; 0-d where there is no batch."""
BoolArray: TypeAlias = NDArray[np.bool_]

Number: TypeAlias = float | np.floating[Any] | np.integer[Any]
RealArray: TypeAlias = NDArray[np.floating[Any] | np.integer[Any]]
# Written out level by level: a recursive alias would take strings, which are sequences of strings.
Vector: TypeAlias = Sequence[Number] | Sequence[RealArray]
ArrayLike: TypeAlias = Number | RealArray | Vector | Sequence[Vector] | Sequence[Sequence[Vector]]
"""A NumPy array of real numbers, or numbers in sequences that nest up to four deep."""
TensorLike: TypeAlias = "Tensor | ArrayLike"
"""What may stand beside a tensor."""
MaskLike: TypeAlias = """NDArray[np.bool_] | Sequence[bool] | Sequence[NDArray[np.bool_]] |
    Sequence[Sequence[bool]] | Tensor"""
"""True where an entry counts."""
Result: TypeAlias = "FloatArray | Tensor"
