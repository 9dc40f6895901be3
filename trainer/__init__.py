"""The training job and its command line, `manasight`."""

from contract.environment import prepare

prepare()  # every other module of the trainer, and the libraries that it brings, are imported after this
