"""What libraries read from the environment when the app starts."""

import os

from contract import environment


def prepare() -> None:
    """Set the variables, before ONNX Runtime and NumPy are imported."""
    environment.prepare()
    # NumPy's OpenBLAS starts a thread per core at import, a tenth of the app's start; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
