"""What libraries read from the environment when they start: no usage reports, no proxy on the way to this machine."""

import os

THIS_MACHINE = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")


def prepare() -> None:
    """Set the variables, before ONNX Runtime and NumPy are imported."""
    # ONNX Runtime's Linux builds upload usage data otherwise.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # NumPy's OpenBLAS starts a thread per core at import, a tenth of the app's start; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Without a proxy nothing is changed: on macOS the variable alone would hide the system's proxies.
    if any(os.environ.get(name) for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")):
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        entries = [entry.strip() for entry in known.split(",") if entry.strip()]
        if entries != ["*"]:
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*entries, *THIS_MACHINE]))
