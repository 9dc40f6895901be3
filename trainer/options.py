"""Command-line options whose mistakes are reported in one sentence."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace

from trainer.errors import UserError
from trainer.files import readable

# The unknown argument, in the words of argparse and of jsonargparse.
UNKNOWN = re.compile(r"[Uu]nrecognized arguments: (\S+)|[Oo]ption '([^']+)'")
WRONG_VALUE = re.compile(r'Parser key "([^"]+)"')
KINDS = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null", str: "text"}


class Parser(ArgumentParser):
    """jsonargparse's parser without its screens of usage and Python's type names."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Namespace:
        """Parse; YAML files are checked first, since jsonargparse does not say which one is wrong."""
        args = list(sys.argv[1:] if args is None else args)
        for position, arg in enumerate(args):
            if arg != readable(arg):
                raise UserError(f"'{readable(arg)}' is not UTF-8; rename it")
            if arg == "--config" and position + 1 < len(args):
                check_yaml(args[position + 1])
            elif arg.startswith("--config="):
                check_yaml(arg.partition("=")[2])
        return super().parse_args(args, *rest, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report what is wrong with the options.

        Raises:
            UserError: always.
        """
        sentence = self._sentence(str(message).strip())
        raise UserError(f"{sentence}{' See' if sentence.endswith('?') else '; see'} `{self.prog} --help`")

    def _sentence(self, message: str) -> str:
        if wrong := WRONG_VALUE.match(message):
            option, value = f"--{wrong[1]}", message.rpartition("alue: ")[2].splitlines()[0]
            action = self._option_string_actions.get(option)
            kind = getattr(action, "_typehint", None)
            if kind is None:
                return f"{option} is a group of options; write {option}.NAME VALUE"
            return f"{option} takes {_expected(kind, action.default)}, not '{value}'"
        if unknown := UNKNOWN.search(message):
            name = (unknown[1] or "--" + unknown[2]).partition("=")[0]
            if not name.startswith("-"):
                return f"'{name}' is one argument too many"
            known = [option for option in self._option_string_actions if option.startswith("--")]
            near = difflib.get_close_matches(name, known, 1)
            return f"there is no option '{name}'" + (f", did you mean '{near[0]}'?" if near else "")
        return " ".join(message.split())


def _expected(kind: Any, default: Any) -> str:
    """A type in words; a tuple or list by an example like its default."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) in (tuple, list):
        shown = ",".join(map(str, default)) if isinstance(default, tuple | list) else "1,2"
        return f"a list in brackets, as in [{shown}]"
    if parts := get_args(kind):
        return " or ".join(_expected(part, default) for part in parts)
    return KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def check_yaml(path: str) -> None:
    """Refuse a file that does not contain options.

    Raises:
        UserError: naming file and line.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'") from None
    except OSError as error:
        raise UserError(f"cannot read '{path}' ({error.strerror}); name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"'{path}' is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(found, dict):
        raise UserError(f"'{path}' contains no options; write them as `name: value`, one per line")
