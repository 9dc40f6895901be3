"""The one exception that the command line turns into a sentence instead of a traceback."""


class UserError(Exception):
    """A mistake of the user's: the message says what is wrong, where, and what to do, in one sentence."""
