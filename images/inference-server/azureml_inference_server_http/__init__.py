"""The names under which scripts import what they need of the server."""
from inferenceserver import __version__  # noqa: F401
