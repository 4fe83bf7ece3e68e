"""One process, or several started by ``accelerate launch``: who does what, and how results come together.

Each process works on its share of the prompts and holds the whole law of a policy afterwards, so all of them take
the same decisions; only the first one writes. Gradients are averaged by torch's DistributedDataParallel or, where
``accelerate launch --use_fsdp`` asks for it, by FSDP2 (``fully_shard``), which also shards the parameters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, overload

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from nondecoupling.lm import errors
from nondecoupling.lm.errors import ProcessesError

__all__ = ["Processes"]

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=np.generic)


class Processes:
    """All processes of this run; a single one where nothing was launched."""

    def __init__(self) -> None:
        self._state = PartialState(cpu=not torch.cuda.is_available())
        self.count, self.rank = self._state.num_processes, self._state.process_index
        asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        self.sharded = asked and self.count > 1

    def leave(self) -> None:
        """End what the processes share, so that none ends while threads of it still run."""
        self._state.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def lost_others(self, error: RuntimeError) -> bool:
        """Whether the error says that another process is gone, not that something is wrong in this one."""
        if self.count == 1:
            return False
        words = str(error).lower()
        return isinstance(error, torch.distributed.DistError) or any(
            word in words for word in ("gloo", "nccl", "connection closed", "connection reset")
        )

    def describe(self) -> str:
        if self.count == 1:
            return "one process"
        return f"{self.count} processes, {'FSDP' if self.sharded else 'data-parallel'}"

    @overload
    def share(self, items: NDArray[Kind]) -> NDArray[Kind]: ...

    @overload
    def share(self, items: Sequence[Item]) -> Sequence[Item]: ...

    def share(self, items: Any) -> Any:
        """This process's part of a sequence or of the rows of an array: every ``count``-th."""
        return items[self.rank :: self.count]

    def share_of(self, size: int, name: str) -> int:
        """This process's part of a batch.

        Raises:
            ProcessesError: it cannot be divided evenly.
        """
        if size % self.count:
            raise ProcessesError(
                f"{name} is {size}, which {self.count} processes cannot share evenly; change one"
            )
        return size // self.count

    def together(self, rows: NDArray[Kind]) -> NDArray[Kind]:
        """The rows of all processes, in their order before ``share``."""
        if self.count == 1:
            return rows
        parts = gather_object([rows])
        whole = np.empty((sum(map(len, parts)), *rows.shape[1:]), rows.dtype)
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole

    def together_list(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, in their order before ``share``."""
        if self.count == 1:
            return list(items)
        parts = gather_object([list(items)])
        whole: list[Any] = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole

    def all_of(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, however many each has, one process after another."""
        if self.count == 1:
            return list(items)
        return [item for part in gather_object([list(items)]) for item in part]

    def wait(self) -> None:
        """Until every process is here."""
        self._state.wait_for_everyone()

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """At the end of the block, once every process is there, what one has raised is raised in all.

        Without this the others would wait for a process that has left. Inside of the block nothing is exchanged.

        Raises:
            LanguageModelError: another process raised it; ProcessesError where it raised something else.
        """
        if self.count == 1:
            yield
            return
        own: Exception | SystemExit | None = None
        try:
            yield
        except (Exception, SystemExit) as error:  # a shell gives an interrupt to all
            own = error
        said = [] if own is None else [(self.rank, type(own).__name__, str(own))]
        every = self.all_of(said)
        if own is not None:
            raise own
        if every:
            rank, kind, words = every[0]
            raise getattr(errors, kind, ProcessesError)(
                f"process {rank} of {self.count} stopped with {kind}: {words}"
            )

    def from_first(self, thing: Any) -> Any:
        """What the first process holds."""
        return broadcast_object_list([thing])[0] if self.count > 1 else thing

    def distribute(self, module: nn.Module, layers: Sequence[nn.Module]) -> nn.Module:
        """The module, ready for training by all processes; ``layers`` are what FSDP shards one by one."""
        if self.count == 1:
            return module
        if not self.sharded:
            return nn.parallel.DistributedDataParallel(module)
        from torch.distributed.fsdp import fully_shard

        for layer in layers:
            fully_shard(layer)
        fully_shard(module)  # in place
        return module

    def trained_state(self, module: nn.Module) -> dict[str, Any]:
        """The parameters that training changes, whole, on the CPU; empty but on the first process."""
        return get_model_state_dict(module, options=_options(ignore_frozen_params=True))

    def set_trained_state(self, module: nn.Module, state: dict[str, Any]) -> None:
        """Undo of ``trained_state``; only the first process needs to hold ``state``."""
        set_model_state_dict(module, state, options=_options(strict=False, **self._spread))

    def optimizer_state(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        return get_optimizer_state_dict(module, optimizer, options=_options())

    def set_optimizer_state(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        set_optimizer_state_dict(module, optimizer, state, options=_options(**self._spread))

    @property
    def _spread(self) -> dict[str, bool]:
        return {"broadcast_from_rank0": self.count > 1}


def _options(**more: Any) -> StateDictOptions:
    return StateDictOptions(full_state_dict=True, cpu_offload=True, **more)
