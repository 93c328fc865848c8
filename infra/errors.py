"""The failures of the place where the engine runs, as opposed to the data it runs on.

`infra` imports none of the other packages, so it cannot raise their errors; `flows.session` translates this one.
"""


class InfraError(Exception):
    """A setting, a cluster or the Prefect API is not usable; the message is one clear line for the operator."""
