"""The routes: GET /, GET /swagger.json, /score."""
import functools
import logging
import os
import sys
import time
import traceback
import uuid

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from . import script, swagger
from .response import AMLResponse
from .worker import MainThread, ScoringTimeout

LIMIT = 100  # of characters of the ids that callers give

logger = logging.getLogger("azmlinfsrv")


def create(settings):
    """Loads the script, calls its init(), and returns the application; exits with 3 where that fails."""
    main_thread = MainThread(settings.scoring_timeout)
    print("Initializing logger", flush=True)
    logger.info("Starting up app insights client")
    if settings.app_insights_enabled:
        logger.warning("Application Insights is asked for; this server sends nothing, and its log is kept by the workspace")
    try:
        user = script.load(settings)
        user.init()
    except script.Failed as ex:
        for line in ex.log:
            logger.error(line)
        _show_model(settings.model_dir)
        sys.exit(3)  # gunicorn takes 3 for a worker that can't start, and ends
    swaggers = swagger.Swagger(settings, user)
    logger.info("Scoring timeout is set to %d", settings.scoring_timeout)
    app = Flask("azmlinfsrv")
    app.main_thread = main_thread
    _answers(app, settings)
    _routes(app, settings, user, swaggers, main_thread)
    logger.info("Worker with pid %d ready for serving traffic", os.getpid())
    return app


def _show_model(folder, limit=200):
    if not folder or not os.path.isdir(folder):
        return
    logger.info("Model Directory Contents:")
    for path, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if limit == 0:
                logger.info("and more")
                return
            logger.info(os.path.relpath(os.path.join(path, name), folder))
            limit -= 1


def failure(status, message, run_failed=False):
    return AMLResponse({"message": message}, status, json_str=True, run_function_failed=run_failed)


@functools.lru_cache(maxsize=None)
def _deprecated():
    """Says so once: whoever stands in front of a server may send the header with each request."""
    logger.warning("x-ms-request-id is deprecated: x-ms-client-request-id is the header for ids of callers")


def _ids():
    """Takes the ids of a request, or says what is wrong with them."""
    g.ids = {}
    own, legacy, client = (request.headers.get(h, "") for h in ("x-request-id", "x-ms-request-id", "x-ms-client-request-id"))
    if len(own) > LIMIT:
        return failure(431, f"x-request-id must not exceed {LIMIT} characters")
    g.ids["x-request-id"] = own = own or str(uuid.uuid4())
    if len(legacy) > LIMIT or len(client) > LIMIT:
        return failure(431, f"x-ms-request-id and x-ms-client-request-id must not exceed {LIMIT} characters")
    if legacy:
        _deprecated()
    g.ids["x-ms-request-id"] = legacy or client or own
    if client or legacy:
        g.ids["x-ms-client-request-id"] = client or legacy
    return None


def _answers(app, settings):
    """What all requests have in common."""

    @app.before_request
    def begin():
        g.began = time.perf_counter()
        g.logged = False
        wrong = _ids()
        if wrong is None and settings.health_port and request.environ.get("SERVER_PORT") == str(settings.health_port) and request.path != "/":
            return failure(404, "this port answers GET / alone")
        return wrong

    @app.after_request
    def end(response):
        if settings.server_version:
            response.headers["x-ms-server-version"] = settings.server_version
        for name, value in g.ids.items():
            response.headers[name] = value
        if "TraceId" in request.headers:
            response.headers["TraceId"] = request.headers["TraceId"]
        if g.logged:
            path = request.path + ("?" + request.query_string.decode("utf-8", "replace") if request.query_string else "")
            length = "N/A" if response.is_streamed else response.calculate_content_length()
            logger.info("%s %s %d %.3fms %s", request.method, path, response.status_code, (time.perf_counter() - g.began) * 1e3, length)
        return response

    @app.errorhandler(HTTPException)
    def of_http(ex):
        return failure(ex.code, "Method not allowed" if ex.code == 405 else ex.description)

    @app.errorhandler(Exception)
    def unexpected(_):
        logger.error("Encountered Exception: %s", traceback.format_exc())
        return failure(500, "An unexpected internal error occurred. Check the logs for more info.")


def _routes(app, settings, user, swaggers, main_thread):
    @app.get("/")
    def health():
        return "Healthy"

    @app.get("/swagger.json")
    def specification():
        g.logged = True
        found, why = swaggers.get(request.args.get("version", "2"))
        return failure(404, why) if found is None else AMLResponse(found, 200, json_str=True)

    @app.route("/score", methods=["GET", "POST", "OPTIONS"], provide_automatic_options=False)
    def score():
        g.logged = True
        if request.method == "OPTIONS" and not user.raw:
            return AMLResponse("", 200)
        try:
            given = user.arguments(request._get_current_object())
        except script.BadInput as ex:
            return failure(ex.status, str(ex))
        try:
            answer, seconds = main_thread.call(user.run, given, dict(request.headers))
        except ScoringTimeout:
            logger.error("Encountered Exception: run() was ended after %d ms", settings.scoring_timeout)
            return failure(500, f"Scoring timeout after {settings.scoring_timeout} ms", True)
        except BaseException:
            logger.error("Encountered Exception: %s", traceback.format_exc())
            return failure(500, "An unexpected error occurred in scoring script. Check the logs for more info.", True)
        if isinstance(answer, script.Refused):
            return failure(400, answer.message)
        if isinstance(answer, Response):
            logger.info("run() output is HTTP Response")
            if answer.status_code >= 500:
                answer.headers["x-ms-run-function-failed"] = "True"
        else:
            answer = AMLResponse(answer, 200, json_str=True)
        answer.headers["x-ms-run-fn-exec-ms"] = f"{seconds * 1e3:.3f}"
        return answer
