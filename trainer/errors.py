"""The exceptions that the command line turns into a sentence instead of a traceback."""


class UserError(Exception):
    """What ends a command until somebody changes something; the message says what is wrong, where, and what to do.

    The exit status is 2, by which a Kubernetes Job knows that another try would fail as well.
    """


class UnavailableError(UserError):
    """Something that may be there at the next try, such as a server that does not answer. The exit status is 1."""


def error_of_mlflow(message: str, error: Exception) -> UserError:
    """The exception for something that MLflow would not do; what it refused, it refuses again."""
    return (UserError if is_refused(error) else UnavailableError)(message)


def is_refused(error: Exception) -> bool:
    """Whether an exception of MLflow's, which is too slow to import for its name, blames the request or who asks."""
    status = getattr(error, "get_http_status_code", int)()
    return 400 <= status < 500 and status not in (408, 409, 425, 429)
