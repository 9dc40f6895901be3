"""Writes checkpoints so that whatever happens in the middle leaves the last whole one."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from trainer.errors import UserError


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's reading and writing, but a file is there as a whole or not at all.

    Lightning's own writes to the system's temporary folder and then moves: from another volume that is a copy, which a
    kill or a full disk leaves half-done under the checkpoint's name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the old file, wait until it is on the disk, rename.

        Raises:
            OSError: if it cannot be written; the old file is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        buffer = io.BytesIO()  # torch.save to a file turns a full disk into an error without a number
        torch.save(checkpoint, buffer)
        try:
            with temporary.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def known_classes(checkpoint: Path, remedy: str, weights_only: bool) -> list[str]:
    """The classes that a checkpoint's model knows, in output order; its weights are not read.

    Args:
        checkpoint: the file.
        remedy: what to do if it is damaged.
        weights_only: run none of its pickle's code, as `best.ckpt` needs none. `last.ckpt` does.

    Raises:
        UserError: if it is.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=weights_only, mmap=True)
        return list(found["hyper_parameters"]["classes"])
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{checkpoint}' is damaged; {remedy}") from error
