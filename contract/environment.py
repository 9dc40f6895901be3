"""What libraries read from the environment when they start: no usage reports, no proxy on the way to this machine."""

import os

THIS_MACHINE = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")


def prepare() -> None:
    """Set the variables; before ONNX Runtime and MLflow are imported, which otherwise upload usage data."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    bypass_proxies(*THIS_MACHINE)


def bypass_proxies(*hosts: str) -> None:
    """Add hosts to those that are reached without a proxy, for this process and its children.

    Without a proxy in the environment nothing is changed: on macOS the variable alone would hide the system's proxies.
    """
    if not any(
        os.environ.get(name) for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")
    ):
        return
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    entries = [entry.strip() for entry in known.split(",") if entry.strip()]
    if entries != ["*"]:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*entries, *hosts]))
