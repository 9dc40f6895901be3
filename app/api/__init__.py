"""The HTTP API: predictions, the model in use, readiness and counters."""
