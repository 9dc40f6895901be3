"""Where what runs and downloads leave behind lies."""

import os
from pathlib import Path

from trainer.errors import UserError


def home() -> Path:
    """The folder `MANASIGHT_HOME`, by default `./.manasight`."""
    return Path(os.environ.get("MANASIGHT_HOME") or ".manasight")


def make_home() -> Path:
    """`home()`, made if it is not there.

    Raises:
        UserError: if it cannot be.
    """
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"'{home()}' cannot be made ({error.strerror}); set MANASIGHT_HOME to a folder that you may write to"
        ) from error
    return home()
