"""What a frozen backbone sees in images: features from a `model.onnx`, kept for the next time. Needs no PyTorch."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.data.images import UNREADABLE, LimitedReader
from trainer.data.parallel import in_order
from trainer.errors import UserError
from trainer.files import reachable, write_whole
from trainer.paths import home
from trainer.progress import progress
from trainer.resources import cpu_cores

BATCH = 32


def features(paths: Sequence[Path], model: Path) -> np.ndarray:
    """Pooled features of images, whatever labels the model knows.

    They are kept below `MANASIGHT_HOME`, and computed again if the model or a file changed.

    Args:
        paths: `N` images.
        model: a `model.onnx` that Manasight exported.

    Returns:
        float16 `[N, K]`; a row of NaN for an image that cannot be read.

    Raises:
        UserError: if the model is not such a file.
    """
    if not reachable(model).is_file():
        raise UserError(f"there is no '{model}'; name a model.onnx with --model")
    kept = home() / "features" / f"{_key(paths, model)}.npy"
    if kept.is_file():
        return np.load(kept)
    session, size, letterbox = _backbone(model)
    rows: list[np.ndarray] = []
    found = np.empty((0, 0), np.float16)
    with LimitedReader() as reader:

        def read(path: Path) -> np.ndarray | None:
            try:
                return reader.load_input(path, size, letterbox)
            except UNREADABLE:
                return None

        images = progress(in_order(read, paths, cpu_cores()), "features", len(paths), unit="image")
        batch: list[np.ndarray | None] = []
        for image in images:
            batch.append(image)
            if len(batch) == BATCH:
                rows.append(_pooled(session, batch, size))
                batch = []
        if batch:
            rows.append(_pooled(session, batch, size))
    found = np.concatenate(rows)
    buffer = io.BytesIO()
    np.save(buffer, found)
    write_whole(kept, buffer.getvalue())
    return found


def _pooled(session, batch: Sequence[np.ndarray | None], size: tuple[int, int]) -> np.ndarray:
    """float16 `[N, K]` of images uint8 `[H, W, 3]`, of which some may be missing."""
    blank = np.zeros((*size, 3), np.uint8)
    (maps,) = session.run(None, {"image": np.stack([blank if image is None else image for image in batch])})
    pooled = maps.mean((2, 3)).astype(np.float16)
    pooled[[image is None for image in batch]] = np.nan
    return pooled


def _backbone(model: Path):
    """A session whose output is the last feature map, its input's height and width, and whether that is a letterbox."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import
    import onnx
    import onnxruntime

    try:
        graph = onnx.load(model)
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        height, width = json.loads(properties["manasight.input_size"])
        letterbox = json.loads(properties.get("manasight.letterbox", "false"))
        # The activation maps are the features times the linear layer.
        node = next(node for node in graph.graph.node if "activation_maps" in node.output)
        del graph.graph.output[:]
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))
        graph.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:  # onnx, protobuf and ONNX Runtime each raise their own
        raise UserError(
            f"'{model}' is not a model of Manasight's; give a model.onnx that `manasight export` wrote"
        ) from error
    return session, (height, width), letterbox


def _key(paths: Sequence[Path], model: Path) -> str:
    """A hash of the model and of the names, sizes and times of the images."""
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for path in paths:
        status = path.stat() if path.exists() else None
        digest.update(f"{path.absolute()} {status and (status.st_size, status.st_mtime_ns)}\n".encode(errors="replace"))
    return digest.hexdigest()[:32]
