"""The user's script: how it is found, what it takes, how it is called."""
import importlib.util
import inspect
import json
import logging
import os
import sys
import traceback

logger = logging.getLogger("azmlinfsrv.user_script")


class Failed(Exception):
    """The script can't serve; log says why, line by line."""

    def __init__(self, *log):
        super().__init__(log[0])
        self.log = log


class BadInput(Exception):
    """A request that run() can't be called with."""

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class Refused:
    """What a script of ours returns where the caller's input is wrong."""

    def __init__(self, message):
        self.message = message


def load(settings):
    """Imports the script; raises Failed."""
    path = settings.script
    if path is None:
        path = os.path.join(settings.app_root, "main.py")
        if not os.path.exists(path):
            from . import mlflow  # no script: a model that says what it is?

            found = mlflow.find(settings.model_dir)
            if found is None:
                raise Failed("No score script found. Expected score script main.py.",
                             f"Expected script to be found in PYTHONPATH: {sys.path}",
                             f"AZUREML_ENTRY_SCRIPT names none, and there is no MLmodel in AZUREML_MODEL_DIR ({settings.model_dir or 'not set'})")
            return Script(mlflow.Model(found), mlflow.__file__)
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec = importlib.util.spec_from_file_location("entry_module", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["entry_module"] = module  # so that what it defines can be pickled
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise Failed("No such file or directory.", traceback.format_exc()) from None
    except ModuleNotFoundError as ex:
        if (ex.name or "").split(".")[0] == "inference_schema":
            raise Failed(f"User script at {path} uses inference-schema, which this image does not have: "
                         "let run(data) take the body as a string, and parse it with json.loads", traceback.format_exc()) from None
        raise Failed("Failed to import user script because it raised an unhandled exception", traceback.format_exc()) from None
    except BaseException:
        raise Failed("Failed to import user script because it raised an unhandled exception", traceback.format_exc()) from None
    return Script(module, path)


class Script:
    """init() and run() of a script."""

    def __init__(self, module, path):
        for needed in ("init", "run"):
            if not callable(getattr(module, needed, None)):
                raise Failed(f"User script at {path} does not have a {needed}() function defined.")
        self._init, self._run = module.init, module.run
        logger.info("Found user script at %s", path)
        parameters = list(inspect.signature(self._run).parameters.values())
        if any(p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
            raise Failed("run() cannot accept positional-only arguments, *args, or **kwargs.")
        names = [p.name for p in parameters]
        self._headers = "request_headers" in names
        names = [n for n in names if n != "request_headers"]
        if not names:
            raise Failed("run() needs to accept an argument " + ('other than "request_headers".' if self._headers else "for input data."))
        if any(p.default is p.empty for p in parameters if p.name in names[1:]):
            raise Failed("run() needs more than one argument, which only a schema could tell apart; this server has none.")
        self._parameter = names[0]
        self.raw = getattr(self._run, "raw_http", False)
        if self.raw:
            logger.info("run() is decorated with @rawhttp. Server will invoke it with the flask request object.")
        else:
            logger.info("run() is not decorated. Server will invoke it with the input in JSON string.")

    def init(self):
        """Calls init(); raises Failed."""
        logger.info("Invoking user's init function")
        try:
            self._init()
        except BaseException:
            raise Failed("User's init function failed", f"Encountered Exception {traceback.format_exc()}") from None
        logger.info("Users's init has completed successfully")

    def arguments(self, request):
        """What run() is called with for a request; raises BadInput."""
        if self.raw:
            return request
        if request.method == "GET":
            return json.dumps({k: _one_or_all(request.args.getlist(k)) for k in request.args})
        try:
            return str(request.get_data(), "utf-8")
        except UnicodeDecodeError as ex:
            raise BadInput(f"Input cannot be decoded as UTF-8: {ex}") from None

    def run(self, given, headers):
        """Calls run()."""
        more = {"request_headers": headers} if self._headers else {}
        return self._run(**{self._parameter: given}, **more)


def _one_or_all(values):
    def parse(v):
        try:
            return json.loads(v)
        except ValueError:
            return v

    return parse(values[0]) if len(values) == 1 else [parse(v) for v in values]
