from inferenceserver.request import AMLRequest, rawhttp  # noqa: F401
