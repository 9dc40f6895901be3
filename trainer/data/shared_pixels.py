"""Memory for pixels that a process shares with its loader workers, whether they are forked, spawned or fork-served."""

import math
import mmap
import os
import weakref
from multiprocessing import context, reduction
from typing import Any

import numpy as np
import torch


class SharedPixels:
    """A uint8 array of zeros at first, one and the same in a process and the workers that it starts.

    On Linux it is a `memfd`: PyTorch's shared tensors are in /dev/shm, which containers limit to 64 MB. Elsewhere it is
    such a tensor.

    Attributes:
        array: uint8, of the shape that was asked for.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Allocate; pages take memory only when they are written."""
        self.shape = shape
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("manasight-pixels")
            os.ftruncate(descriptor, max(1, math.prod(shape)))
            self._map(descriptor)
        else:
            self._view(torch.zeros(shape, dtype=torch.uint8).share_memory_())

    def _map(self, descriptor: int) -> None:
        """Use the memory behind a descriptor, which is kept so that it can be handed to workers."""
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        memory = mmap.mmap(descriptor, max(1, math.prod(self.shape)))
        self.array = np.frombuffer(memory, np.uint8, math.prod(self.shape)).reshape(self.shape)

    def _view(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self.array = tensor.numpy()

    def __getstate__(self) -> dict[str, Any]:
        """The memory itself for a process that is being started; only the shape for anything else."""
        state: dict[str, Any] = {"shape": self.shape}
        if context.get_spawning_popen() is not None:
            shared = vars(self).get("_tensor")
            state["shared"] = reduction.DupFd(self._descriptor) if shared is None else shared
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        shared = state.get("shared")
        if shared is None:
            self.__init__(state["shape"])
            return
        self.shape = state["shape"]
        if isinstance(shared, torch.Tensor):
            self._view(shared)
        else:
            self._map(shared.detach())
