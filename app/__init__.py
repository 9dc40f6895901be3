"""The Streamlit app: images in, labels, confidences and heat maps out. Imports neither torch nor trainer."""

import os

# ONNX Runtime reads this when it is imported, and its Linux builds upload usage data unless it is set. Every module of
# the app is imported after this line, so nothing of the app can start the uploader.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# NumPy's OpenBLAS starts a thread per core at import, a tenth of the app's start; nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
