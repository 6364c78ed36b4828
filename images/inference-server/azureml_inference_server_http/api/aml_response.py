from inferenceserver.response import AMLResponse  # noqa: F401
