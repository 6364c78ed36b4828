"""The contract: routes, headers, errors, settings, log lines, exit codes."""
import http.client
import json
import os
import re
import threading
import time

from server_case import ServerCase, free_port

ECHO = "def init():\n    pass\ndef run(data):\n    return {'got': data}\n"
SCRIPT = '''
import json, os, signal, threading, time
def init():
    global at
    at = threading.get_ident()
def run(data):
    ask = json.loads(data)
    if "sleep" in ask:
        time.sleep(ask["sleep"])
    if "raise" in ask:
        raise {"error": ValueError, "exit": SystemExit}[ask["raise"]](7)
    if "die" in ask:
        os._exit(1)
    if "set" in ask:
        return {1, 2}
    return {"main": threading.current_thread() is threading.main_thread(), "same": at == threading.get_ident(), "pid": os.getpid()}
'''


class Routes(ServerCase):
    def test_scores_and_says_so(self):
        self.start(ECHO)
        self.assertEqual((self.ask("GET", "/").status, self.ask("GET", "/").body), (200, "Healthy"))
        got = self.ask("POST", "/score", '{"data": [1]}', {"TraceId": "t1"})
        self.assertEqual((got.status, got.json), (200, {"got": '{"data": [1]}'}))
        self.assertEqual(got.headers["content-type"], "application/json")
        self.assertEqual(got.headers["x-ms-run-function-failed"], "False")
        self.assertRegex(got.headers["x-ms-run-fn-exec-ms"], r"^\d+\.\d{3}$")
        self.assertEqual((got.headers["x-ms-server-version"], got.headers["traceid"]), ("azmlinfsrv/1.5.1", "t1"))
        self.assertEqual(got.headers["x-request-id"], got.headers["x-ms-request-id"])
        self.assertNotIn("x-ms-client-request-id", got.headers)
        self.assertRegex(self.output(), r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I \[\d+\] azmlinfsrv - POST /score 200 \d+\.\d{3}ms %d$" % len(got.body))
        self.assertNotIn("GET / ", self.output())

    def test_query_is_json(self):
        self.start(ECHO)
        got = self.ask("GET", "/score?a=1&b=[1,2]&c=x&c=2&d=null")
        self.assertEqual(json.loads(got.json["got"]), {"a": 1, "b": [1, 2], "c": ["x", 2], "d": None})
        self.assertIn("GET /score?a=1&b=[1,2]&c=x&c=2&d=null 200 ", self.output())

    def test_ids(self):
        self.start(ECHO)
        for given, want in (
            ({"x-request-id": "a"}, ("a", "a", None)), ({"x-ms-request-id": "b"}, (None, "b", "b")), ({"x-ms-client-request-id": "c"}, (None, "c", "c")),
            ({"x-request-id": "a", "x-ms-request-id": "b", "x-ms-client-request-id": "c"}, ("a", "b", "c")),
        ):
            h = self.ask("POST", "/score", "", given).headers
            self.assertEqual((h["x-ms-request-id"], h.get("x-ms-client-request-id")), want[1:])
            self.assertEqual(h["x-request-id"] == "a", want[0] == "a")
        self.assertEqual(self.output().count("x-ms-request-id is deprecated"), 1)
        for name in ("x-request-id", "x-ms-request-id", "x-ms-client-request-id"):
            got = self.ask("POST", "/score", "", {name: "a" * 101})
            self.assertEqual((got.status, list(got.json)), (431, ["message"]))

    def test_errors(self):
        self.start(SCRIPT)
        for method, path, body, status, message in (
            ("PUT", "/score", "", 405, "Method not allowed"), ("POST", "/", "", 405, "Method not allowed"), ("GET", "/nope", None, 404, None),
            ("POST", "/score", b"\xff", 400, None), ("GET", "/swagger.json?version=9", None, 404, None),
            ("POST", "/score", '{"set": 1}', 500, "An unexpected internal error occurred. Check the logs for more info."),
        ):
            got = self.ask(method, path, body)
            self.assertEqual((got.status, list(got.json)), (status, ["message"]), path)
            self.assertEqual(got.json["message"], message or got.json["message"])
            self.assertEqual(got.headers["x-ms-run-function-failed"], "False")
        for kind in ("error", "exit"):
            got = self.ask("POST", "/score", '{"raise": "%s"}' % kind)
            self.assertEqual((got.status, got.json["message"]), (500, "An unexpected error occurred in scoring script. Check the logs for more info."))
            self.assertEqual(got.headers["x-ms-run-function-failed"], "True")
        self.assertIn("ValueError: 7", self.output())
        self.assertEqual(self.ask("OPTIONS", "/score").status, 200)
        self.assertEqual(self.ask("POST", "/score", "{}").status, 200)

    def test_swagger(self):
        self.start(ECHO, SERVICE_NAME="blue", SERVICE_PATH_PREFIX="/api/v1/")
        for version, key, value in (("", "swagger", "2.0"), ("?version=2", "swagger", "2.0"), ("?version=2.0", "swagger", "2.0"), ("?version=3", "openapi", "3.0.3"), ("?version=3.1", "openapi", "3.1.0")):
            got = self.ask("GET", "/swagger.json" + version).json
            self.assertEqual((got[key], got["info"]["title"], sorted(got["paths"])), (value, "blue", ["/api/v1/", "/api/v1/score"]))

    def test_own_swagger_files(self):
        (self.app / "swagger2.json").write_text('{"swagger": "2.0", "mine": 2}')
        (self.app / "swagger3.1.json").write_text("not JSON")
        self.start(ECHO)
        self.assertEqual(self.ask("GET", "/swagger.json").json["mine"], 2)
        self.assertEqual(self.ask("GET", "/swagger.json?version=3.1").json["openapi"], "3.1.0")
        self.assertIn("Loaded user's swagger file for version [2] from ", self.output())
        self.assertIn("swagger3.1.json is not used", self.output())

    def test_raw_http(self):
        self.start('''
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
def init():
    pass
@rawhttp
def run(request):
    if request.method == "POST":
        return AMLResponse(request.get_data()[::-1], int(request.args["status"]), {"Content-Type": "image/png", "X-Two": "a,b"})
    return {"method": request.method}
''')
        got = self.ask("POST", "/score?status=503", b"\x01\x02")
        self.assertEqual((got.status, got.body, got.headers["content-type"]), (503, "\x02\x01", "image/png"))
        self.assertEqual(got.headers["x-ms-run-function-failed"], "True")
        self.assertEqual(self.ask("OPTIONS", "/score").json, {"method": "OPTIONS"})

    def test_headers_are_given_where_they_are_wanted(self):
        self.start("def init(): pass\ndef run(data, request_headers): return request_headers['X-Mine']\n")
        self.assertEqual(self.ask("POST", "/score", "", {"X-Mine": "7"}).json, "7")


class Workers(ServerCase):
    def test_run_has_the_thread_of_init_and_health_is_answered_meanwhile(self):
        self.start(SCRIPT)
        slow = threading.Thread(target=self.ask, args=("POST", "/score", '{"sleep": 1.5}'))
        began = time.monotonic()
        slow.start()
        time.sleep(0.2)
        self.assertEqual(self.ask("GET", "/").status, 200)
        self.assertLess(time.monotonic() - began, 1)
        got = self.ask("POST", "/score", "{}").json
        self.assertEqual((got["main"], got["same"]), (True, True))
        self.assertGreaterEqual(time.monotonic() - began, 1.4)  # one run() at a time
        slow.join()

    def test_a_connection_is_kept(self):
        self.start(ECHO)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        used = set()
        for _ in range(3):
            connection.request("POST", "/score", "1")
            connection.getresponse().read()
            used.add(connection.sock.getsockname()[1])
        self.assertEqual(len(used), 1)

    def test_timeout(self):
        self.start(SCRIPT, SCORING_TIMEOUT_MS="300")
        began = time.monotonic()
        got = self.ask("POST", "/score", '{"sleep": 20}')
        self.assertEqual((got.status, got.json["message"], got.headers["x-ms-run-function-failed"]), (500, "Scoring timeout after 300 ms", "True"))
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(self.ask("POST", "/score", "{}").status, 200)
        self.assertIn("Scoring timeout is set to 300", self.output())

    def test_a_worker_that_dies_or_hangs_is_replaced(self):
        self.start(SCRIPT, WORKER_TIMEOUT="2")
        first = self.ask("POST", "/score", "{}").json["pid"]
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.ask("POST", "/score", '{"die": 1}')
        self.until(lambda: self.output().count("ready for serving traffic") == 2)
        second = self.ask("POST", "/score", "{}").json["pid"]
        self.assertNotEqual(first, second)
        try:
            self.ask("POST", "/score", '{"sleep": 25}')
        except (http.client.HTTPException, OSError):
            pass
        self.until(lambda: self.output().count("ready for serving traffic") == 3)
        self.assertIn("WORKER TIMEOUT", self.output())

    def test_several_workers(self):
        self.start(SCRIPT, WORKER_COUNT="2", WORKER_PRELOAD="true")
        self.assertIn("Worker Count: 2", self.output())
        self.assertEqual(self.output().count("Users's init has completed"), 1)
        self.assertEqual(self.ask("POST", "/score", "{}").status, 200)

    def test_sigterm_ends_it_after_what_runs(self):
        self.start(SCRIPT)
        answers = []
        slow = threading.Thread(target=lambda: answers.append(self.ask("POST", "/score", '{"sleep": 1}').status))
        slow.start()
        time.sleep(0.3)
        self.process.terminate()
        slow.join()
        self.assertEqual((answers, self.exited()[0]), ([200], 0))


class Start(ServerCase):
    def test_log_lines_in_order(self):
        self.start(ECHO, AZUREML_MODEL_DIR=str(self.app))
        at = 0
        for line in (
            "Azure ML Inferencing HTTP server v1.5.1", "Server Settings\n---------------\nEntry Script Name: score.py\nModel Directory: ", "Worker Count: 1", f"Server Port: {self.port}",
            f"Server Routes\n---------------\nLiveness Probe: GET   127.0.0.1:{self.port}/\nScore:          POST  127.0.0.1:{self.port}/score\n", "Initializing logger", "azmlinfsrv - Starting up app insights client",
            f"azmlinfsrv.user_script - Found user script at {self.app}/score.py", "azmlinfsrv.user_script - run() is not decorated. Server will invoke it with the input in JSON string.",
            "azmlinfsrv.user_script - Invoking user's init function", "azmlinfsrv.user_script - Users's init has completed successfully",
            "azmlinfsrv.swagger - Swaggers are prepared for the following versions: [2, 3, 3.1].", "azmlinfsrv - Scoring timeout is set to 3600000",
        ):
            self.assertIn(line, self.output())
            self.assertGreater(self.output().index(line), at)
            at = self.output().index(line)
        self.assertRegex(self.output()[at:], r"azmlinfsrv - Worker with pid \d+ ready for serving traffic")

    def test_what_cannot_start_ends_with_3(self):
        for script, line in (
            ("def init(): raise ValueError('no model')\ndef run(d): pass\n", "no model"), ("import nothing_of_this_name\n", "nothing_of_this_name"), ("def run(d): pass\n", "does not have a init() function"),
            ("def init(): pass\n", "does not have a run() function"), ("def init(): pass\ndef run(): pass\n", "needs to accept an argument for input data"), ("def init(): pass\ndef run(*a): pass\n", "positional-only"),
            ("def init(): pass\ndef run(a, b): pass\n", "more than one argument"), ("from inference_schema.schema_decorators import input_schema\n", "uses inference-schema, which this image does not have"),
            ("import sys\nsys.exit(0)\n", "Failed to import user script"), ("def init(:\n", "SyntaxError"),
        ):
            self.start(script, ready=False, AZUREML_MODEL_DIR=str(self.app))
            status, log = self.exited()
            self.assertEqual(status, 3, log)
            self.assertIn(line, log)
        self.start(None, ready=False)
        status, log = self.exited()
        self.assertEqual(status, 3)
        self.assertIn("No score script found. Expected score script main.py.", log)
        self.start(None, ready=False, AZUREML_ENTRY_SCRIPT="gone.py")
        self.assertEqual(self.exited()[0], 3)

    def test_a_worker_that_is_killed_in_init_ends_the_server(self):
        for env in ({}, {"WORKER_COUNT": "2"}):
            self.start("import os\ndef init(): os.kill(os.getpid(), 9)\ndef run(d): pass\n", ready=False, **env)
            status, log = self.exited()
            self.assertEqual(status, 3, log)
            self.assertRegex(log, r"The worker with pid \d+ ended before the user's init function had completed")

    def test_sigterm_in_init_is_no_failure(self):
        self.start("import time\ndef init():\n    print('began', flush=True)\n    time.sleep(1)\ndef run(d): pass\n", ready=False)
        self.until(lambda: "began" in self.output())
        self.process.terminate()
        status, log = self.exited()
        self.assertEqual(status, 0, log)
        self.assertNotIn("ended before", log)

    def test_what_init_could_have_loaded_is_listed(self):
        os.makedirs(self.app / "m" / "deep")
        (self.app / "m" / "deep" / "model.pkl").write_text("")
        self.start("def init(): raise ValueError()\ndef run(d): pass\n", ready=False, AZUREML_MODEL_DIR=str(self.app / "m"))
        self.assertRegex(self.exited()[1], r"Model Directory Contents:\n.* deep/model.pkl")

    def test_settings(self):
        (self.app / "config.json").write_text('{"SCORING_TIMEOUT_MS": 1234, "service_name": "of the file"}')
        self.start(ECHO, SERVICE_NAME="of the environment", SERVER_VERSION_LOG_RESPONSE_ENABLED="false")
        self.assertIn("Scoring timeout is set to 1234", self.output())
        self.assertIn(f"Config File: {self.app}/config.json", self.output())
        self.assertEqual(self.ask("GET", "/swagger.json").json["info"]["title"], "of the environment")
        self.assertNotIn("x-ms-server-version", self.ask("GET", "/").headers)

    def test_settings_that_cannot_be(self):
        for name, value in (("SCORING_TIMEOUT_MS", "soon"), ("WORKER_COUNT", "0"), ("AZUREML_LOG_LEVEL", "loud"), ("AZUREML_DEBUG_PORT", "5678"), ("AZUREML_CONFIG_FILE", str(self.app / "bad.json"))):
            (self.app / "bad.json").write_text("[]")
            self.start(ECHO, ready=False, **{name: value})
            status, log = self.exited()
            self.assertEqual(status, 3, log)
            self.assertIn(name, log)

    def test_a_port_for_health(self):
        health = free_port()
        self.start(ECHO, arguments=("--health_port", str(health)), SEPERATE_HEALTH_ENDPOINT="true")
        self.assertEqual(self.ask("GET", "/", port=health).body, "Healthy")
        self.assertEqual(self.ask("POST", "/score", "1", port=health).status, 404)
        self.assertEqual(self.ask("POST", "/score", "1").status, 200)
        self.assertIn(f"Liveness Probe: GET   127.0.0.1:{health}/", self.output())

    def test_a_secret_is_not_shown(self):
        self.start(ECHO, AML_APP_INSIGHTS_KEY="very-secret", AML_APP_INSIGHTS_ENABLED="true")
        self.assertIn("AppInsights key provided", self.output())
        self.assertNotIn("very-secret", self.output())
        self.assertTrue(re.search("Application Insights is asked for", self.output()))
