"""The training job: data, fit, evaluate, export, register."""
