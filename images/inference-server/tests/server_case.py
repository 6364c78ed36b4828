"""Runs the server as a process, for tests that talk to it."""
import http.client
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).parent
# How this Python is started again: with the image's own, by its loader.
PYTHON = shlex.split(os.environ.get("TEST_PYTHON", sys.executable))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, dict((k.lower(), v) for k, v in response.getheaders()), response.read().decode()

    @property
    def json(self):
        return json.loads(self.body)


class ServerCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.app = pathlib.Path(folder.name)
        self.process = None

    def start(self, script=None, ready=True, arguments=(), **env):
        """Starts the server with score.py as its script, and waits until it is ready."""
        if script is not None:
            (self.app / "score.py").write_text(script)
            env.setdefault("AZUREML_ENTRY_SCRIPT", "score.py")
        self.port = free_port()
        self.log = open(self.app / "log", "w+")
        self.addCleanup(self.log.close)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AZUREML_", "AML_"))}
        self.process = subprocess.Popen(
            [*PYTHON, "-m", "inferenceserver", "--port", str(self.port), *arguments], stdout=self.log, stderr=self.log, start_new_session=True, cwd=self.app,
            env={**inherited, "PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1", "AML_APP_ROOT": str(self.app), **env})
        self.addCleanup(self.kill)
        if ready:
            self.until(lambda: "ready for serving traffic" in self.output() or self.process.poll() is not None)
            self.assertIsNone(self.process.poll(), self.output())
            self.until(self.listens)  # with WORKER_PRELOAD the script is ready first

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def until(self, true, seconds=30):
        deadline = time.monotonic() + seconds
        while not true():
            self.assertLess(time.monotonic(), deadline, self.output())
            time.sleep(0.02)

    def output(self):
        return (self.app / "log").read_text()

    def ask(self, method, path, body=None, headers=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())

    def exited(self):
        """Waits for the end and returns (status, log)."""
        return self.process.wait(30), self.output()
