"""The training job: data, fit, evaluate, export, register."""

from trainer.environment import prepare

prepare()  # every other module of the trainer, and the libraries that it brings, are imported after this
