"""The command line `manasight`: one name per step of the job, each imported only when it is asked for."""

import errno
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer import stopping
from trainer.errors import UnavailableError, UserError, is_refused
from trainer.paths import program
from trainer.stopping import LASTING

# name → (module:function, one line of help). A function called `main` parses its own arguments.
COMMANDS: dict[str, tuple[str, str]] = {
    "data demo": ("cards.drawn.demo:draw", "draw a rights-free dataset of cards"),
    "data scryfall": ("cards.scryfall.fetch:scryfall", "fetch card images from Scryfall, labeled"),
    "data pull": ("trainer.data.s3:pull", "copy a dataset from S3"),
    "data push": ("trainer.data.s3:push", "copy a dataset to S3"),
    "data mtgpics": ("cards.mtgpics:mtgpics", "fetch the card images of a set from mtgpics.com"),
    "data split": ("trainer.data.split:split", "split a folder of labeled images into train, val and test"),
    "data describe": ("trainer.commands.describe:describe", "count and check the images of a dataset"),
    "data suspects": ("trainer.commands.suspects:suspects", "list the labels that are probably wrong"),
    "train": ("trainer.commands.train:main", "fit, evaluate, export and promote in one resumable command"),
    "fit": ("trainer.commands.fit:main", "train a classifier, tracked in MLflow"),
    "experiments": (
        "trainer.commands.experiments:main",
        "train frozen, finetune and scratch; promote the best",
    ),
    "worker": ("trainer.commands.worker:main", "train as one worker of a Kubernetes Indexed Job"),
    "evaluate": ("trainer.commands.evaluate:evaluate", "measure a trained run on its test split"),
    "export": ("trainer.commands.export:export", "write model.onnx, check it against torch, register it"),
    "promote": ("trainer.commands.promote:promote", "make a registered model the champion if it is the better one"),
    "serve": ("trainer.commands.serve:serve", "the app and MLflow's page on this machine"),
    "predict": ("trainer.commands.predict:predict", "label a folder, a pattern or s3:// of images with a model.onnx"),
    "explain": ("trainer.commands.explain:explain", "show where a trained model looks"),
}


def usage() -> str:
    """The text of `manasight --help`."""
    width = max(map(len, COMMANDS)) + 2
    rows = "\n".join(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: manasight COMMAND [ARGUMENTS]\n\nFolders of images in, a multi-label classifier out.\n\n"
        f"commands:\n{rows}\n\n`manasight COMMAND --help` explains one; `manasight --version` prints the version."
    )


def version() -> str:
    """The installed version of Manasight."""
    from importlib.metadata import version as installed

    return installed("manasight")


def find_command(args: Sequence[str]) -> tuple[str, list[str]]:
    """Split the arguments into a command's name and the rest.

    Raises:
        UserError: if they name no command.
    """
    for words in (2, 1):
        name = " ".join(args[:words])
        if name in COMMANDS and len(args) >= words:
            return name, list(args[words:])
    asked = " ".join(args[:2] if args[0] == "data" else args[:1])
    raise UserError(f"there is no command '{asked}'; the commands are: {', '.join(COMMANDS)}")


def run(name: str, args: list[str]) -> int:
    """Import the function behind a command and call it with what the arguments say."""
    module, _, function = COMMANDS[name][0].partition(":")
    target = getattr(importlib.import_module(module), function)
    prog = f"{program()} {name}"
    if function == "main":
        return target(args, prog=prog) or 0
    target(**parse(target, args, prog))
    return 0


def parse(target: Callable[..., None], args: list[str], prog: str) -> dict[str, Any]:
    """The arguments that a function's signature and docstring ask for.

    A bool needs no value: `--check` is enough. A list's option is given once for every value. Dashes in the names of
    options are as good as underscores.
    """
    from trainer.options import Parser

    parser = Parser(prog=prog, description=(target.__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_function_arguments(target, as_positional=True)
    for action in parser._actions:
        if action.default is False:
            action.nargs, action.const = "?", True
    lists = {f"--{name}" for name, kind in target.__annotations__.items() if str(kind).startswith("list")}
    for position, arg in enumerate(args):
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            name = "--" + name[2:].replace("-", "_")
            args[position] = name + "+" * (name in lists) + equals + value
    config = parser.instantiate(parser.parse_args(args))
    return {name: value for name, value in vars(config).items() if name != "config"}


def explain(error: OSError) -> str:
    """What the system refused, and where: not for a full disk, and never a temporary file's name."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space, or write somewhere else"
    path = Path(str(error.filename)) if error.filename else None
    while path and path.name.startswith(".") and path.name != ".manasight":
        path = path.parent
    return f"{error.strerror or error}" + (f" ('{path}')" if path else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Returns:
        the exit status, as in docs/training.md: 0; 1 for what may work at another try, or if nobody reads the output
        any more; 2 for what fails until something is changed; 75 for a training that was stopped by a signal, by
        Ctrl-C too, or could not deliver its metrics, and can be resumed; 130 for Ctrl-C elsewhere.

    Raises:
        Stopped: with status 128 + n for signal n, SIGTERM, SIGHUP or SIGQUIT, outside of the steps of a training.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args[1:] in ([], ["-h"], ["--help"]) and args[:1] in ([], ["-h"], ["--help"], ["help"], ["data"]):
        print(usage())
        return 0
    if args[0] == "--version":
        print(version())
        return 0
    stopping.catch()
    if not os.environ.get("MANASIGHT_DEBUG"):
        # What libraries print while they load and start; MANASIGHT_DEBUG=1 lets it through.
        warnings.simplefilter("ignore")
        logging.disable(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a label may have characters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    status, name = 1, ""
    try:
        name, rest = find_command(args)
        status = run(name, rest)
        print(end="", flush=True)
        return status
    except stopping.Stopped as stopped:
        say(f"stopped by {stopped.name}")
        raise
    except KeyboardInterrupt:
        say("stopped by Ctrl-C")
        return 130
    except Exception as error:
        from trainer import failures

        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO) and failures.output_is_closed():
            failures.silence_output()  # as of `| head`, or of a closed terminal
            return status or 1
        if os.environ.get("MANASIGHT_DEBUG") and not isinstance(error, UserError):
            raise
        say(sentence(error, name, args))
        return LASTING if is_lasting(error) else 1


def is_lasting(error: Exception) -> bool:
    """Whether a command that ended so ends so again until somebody changes something."""
    if isinstance(error, UserError):
        return not isinstance(error, UnavailableError)
    if isinstance(error, OSError):
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return isinstance(error, ImportError) or is_refused(error)


def sentence(error: Exception, command: str, args: Sequence[str]) -> str:
    """What an exception means for the user."""
    from trainer import failures

    if isinstance(error, UserError):
        return failures.plain(str(error)).replace("`manasight ", f"`{program()} ")
    if known := failures.known(error, command):
        return known
    if isinstance(error, OSError):
        return explain(error)
    # MLflow is too slow to import for the name of its exception.
    if type(error).__name__ in ("MlflowException", "RestException"):
        return f"MLflow says: {failures.first_line(str(error))}"
    return failures.unexpected(error, args)


def say(text: str) -> None:
    """Print a line for the user to stderr, unless the terminal is gone."""
    with suppress(OSError):
        print(f"manasight: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
