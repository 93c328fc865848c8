"""The failures of the place where the engine runs, as opposed to the data it runs on.

`infra` imports none of the other packages, so it cannot raise their errors; `flows.session` translates this one.
"""


class InfraError(Exception):
    """A setting, a cluster or the Prefect API is not usable; the message is one clear line for the operator."""


def one_line(error: BaseException) -> str:
    """Returns what went wrong first, in one line.

    Guards against the two ways in which a library hides it: an exception that only says "failed to start" and was
    raised from the one that says why, and a message of many lines, of one bare word, or of none.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if " " in text else f"{type(error).__name__}: {text}".removesuffix(": ")
