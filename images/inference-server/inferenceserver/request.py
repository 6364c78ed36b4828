"""What scripts that read HTTP themselves import."""
from flask import Request as AMLRequest  # noqa: F401


def rawhttp(run):
    """Marks run(): it gets the request itself, and may answer with an AMLResponse."""
    run.raw_http = True
    return run
