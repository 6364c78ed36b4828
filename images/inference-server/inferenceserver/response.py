"""The answers of scripts that write HTTP themselves, and of the server."""
import json

from flask import Response


class AMLResponse(Response):
    """A response with a body (JSON of message with json_str), a status and headers."""

    def __init__(self, message, status_code, response_headers=None, json_str=False, run_function_failed=False):
        if message is None or json_str:
            super().__init__(json.dumps({} if message is None else message), status=status_code, mimetype="application/json")
        else:
            super().__init__(message, status=status_code)
        self.headers["x-ms-run-function-failed"] = str(run_function_failed)
        given = response_headers or {}
        for name in given:
            if name.lower() == "content-type":
                self.headers.pop("Content-Type", None)
        for name, value in given.items():  # a comma stands between values of a header that comes more than once
            for one in str(value).split(","):
                self.headers.add(name, one.strip())
