"""Command-line options whose mistakes are answered in one sentence."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from trainer.errors import UserError

# How jsonargparse says that a value has the wrong type.
WRONG_TYPE = re.compile(r'Parser key "(?P<key>[^"]+)":(?P<why>.*?)(?:Got value|Given value): (?P<value>.*)', re.DOTALL)
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "NoneType": "null", "str": "a text"}


class Parser(ArgumentParser):
    """jsonargparse's parser without its screens of usage and Python's type names."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Namespace:
        """Parse; YAML files are looked at first, since jsonargparse does not say which one is at fault."""
        args = list(sys.argv[1:] if args is None else args)
        for position, arg in enumerate(args):
            if arg == "--config" and position + 1 < len(args):
                check_yaml(args[position + 1])
            elif arg.startswith("--config="):
                check_yaml(arg.partition("=")[2])
        return super().parse_args(args, *rest, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong with the options.

        Raises:
            UserError: always.
        """
        sentence = self._sentence(str(message).strip())
        raise UserError(f"{sentence}{' See' if sentence.endswith('?') else '; see'} `{self.prog} --help`")

    def _sentence(self, message: str) -> str:
        unknown = re.search(r"[Uu]nrecognized arguments: (\S+)|does not accept option '([^']+)'", message)
        if unknown:
            name = (unknown[1] or "--" + unknown[2]).partition("=")[0]
            if not name.startswith("-"):
                return f"'{name}' is one argument too many"
            known = [option for option in self._option_string_actions if option.startswith("--")]
            near = difflib.get_close_matches(name, known, 1)
            return f"there is no option '{name}'" + (f", did you mean '{near[0]}'?" if near else "")
        if found := re.search(r"Parser key \"([^\"]+)\":\s+'utf-8' codec can't encode", message):
            return f"the name given as {found[1]} is not UTF-8; rename it"
        if found := re.search(r"Parser key \"([^\"]+)\":\s+Unable to load config '([^']*)'", message):
            return f"--{found[1]} {found[2]} is a group of options; write --{found[1]}.NAME VALUE"
        if found := re.search(r"argument (\S+): expected one argument", message):
            return f"{found[1]} needs a value: {self._option_string_actions[found[1]].help}"
        if found := re.search(r"arguments are required: (\S+)$", message):
            option = f"--{found[1]}"
            return f"name {option if option in self._option_string_actions else found[1]}, which is required"
        wrong = WRONG_TYPE.search(message)
        if wrong:
            kinds = re.findall(r"Expected an? <class '(\w+)'>", wrong["why"])
            choices = re.findall(r"Literal\[([^\]]*)\]", wrong["why"])
            expected = [KINDS[kind] for kind in dict.fromkeys(kinds) if kind in KINDS]
            if {"tuple", "list"} & set(kinds) or "Expected a tuple with" in wrong["why"]:
                usual = getattr(self._option_string_actions.get(f"--{wrong['key']}"), "default", None)
                shown = ",".join(map(str, usual)) if usual and isinstance(usual, tuple | list) else "1,2"
                expected = [f"a list in brackets, as in [{shown}]"]
                if usual and wrong["value"].strip().startswith("["):
                    expected = [f"{len(usual)} values, as in [{shown}]"]
            values = dict.fromkeys(value for choice in choices for value in choice.split(", "))
            expected += [f"one of {', '.join(values)}"] if values else []
            value = wrong["value"].strip().splitlines()[0]
            if expected:
                return f"--{wrong['key']} takes {' or '.join(expected)}, not '{value}'"
        return " ".join(message.split())


def check_yaml(path: str) -> None:
    """Refuse a file of options that is none.

    Raises:
        UserError: naming file and line.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'") from None
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}); name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"'{path}' is no YAML{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(found, dict):
        raise UserError(f"'{path}' holds no options; write them as `name: value`, one per line")
