"""gunicorn, with the script's code on the main thread of each worker.

A scoring script is called by one request at a time, on the thread that called
its init(): what it made there (event loops, connections, signal handlers) works
in run() too, and SIGALRM can end a run() that takes too long. Connections,
kept-alive ones among them, and the health route are the other threads' work,
so that a probe is answered while a model thinks.
"""
import concurrent.futures
import contextvars
import logging
import mmap
import queue
import signal
import threading
import time

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from gunicorn.workers.gthread import ThreadWorker

THREADS = 32  # of connections; they start when they are needed
KEEP_ALIVE = 75  # seconds; longer than the router keeps one that it does not use


class ScoringTimeout(BaseException):
    """run() took too long. Not an Exception: a script that catches those must not catch this."""


class MainThread:
    """The queue of calls to the script."""

    def __init__(self, timeout_ms):
        self.timeout = timeout_ms / 1000
        self.calls = queue.SimpleQueue()
        self.busy_since = None

    def call(self, function, *args, **kwargs):
        """Runs function on the main thread, in the context of the caller, and returns (what it returned, seconds)."""
        future, context = concurrent.futures.Future(), contextvars.copy_context()
        self.calls.put((future, context, function, args, kwargs))
        return future.result()

    def serve(self, alive):
        """Runs calls while alive()."""
        signal.signal(signal.SIGALRM, self._alarm)
        while alive():
            try:
                job = self.calls.get(timeout=0.2)
            except queue.Empty:
                continue
            self._run(*job)

    def _run(self, future, context, function, args, kwargs):
        self.busy_since = began = time.perf_counter()
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, self.timeout)
                result = context.run(function, *args, **kwargs)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as ex:  # SystemExit of a script too: it ends a request, not the server
            future.set_exception(ex)
        else:
            future.set_result((result, time.perf_counter() - began))
        finally:
            self.busy_since = None

    def _alarm(self, *_):
        raise ScoringTimeout()

    def stuck(self, seconds):
        since = self.busy_since
        return since is not None and 0 < seconds < time.perf_counter() - since


class Worker(ThreadWorker):
    """gunicorn's threaded worker, with its loop beside the main thread."""

    def run(self):
        main = self.wsgi.main_thread
        loop = threading.Thread(target=super().run, name="connections", daemon=True)
        loop.start()
        main.serve(loop.is_alive)

    def notify(self):
        if not self.wsgi or not self.wsgi.main_thread.stuck(self.timeout):
            super().notify()  # else gunicorn replaces this worker: WORKER_TIMEOUT


def forking(_server, worker):
    worker.ready = mmap.mmap(-1, 1)  # the server and the worker both have it


def initialized(worker):
    worker.ready[0] = 1


def ended(server, worker):
    """Ends the server with a worker that did not live to see its script's init() end: the next one would fare no better."""
    ready = worker.ready[0]
    worker.ready.close()
    if not ready and server.LISTENERS:  # else the server is being ended
        server.log.error("The worker with pid %s ended before the user's init function had completed. It may have needed more memory than there is.", worker.pid)
        raise HaltServer("Worker failed to boot.", server.WORKER_BOOT_ERROR)


class Log(glogging.Logger):
    """gunicorn's log goes where all goes; requests are logged by the routes."""

    def setup(self, cfg):
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.INFO)

    def access(self, *_):
        pass


class Server(BaseApplication):
    """The server of one script."""

    def __init__(self, settings):
        self.settings = settings
        super().__init__()

    def load_config(self):
        s = self.settings
        binds = [f"0.0.0.0:{s.port}"]
        if s.health_port:
            binds.append(f"0.0.0.0:{s.health_port}")
        for key, value in {
            "bind": binds, "workers": s.worker_count, "threads": THREADS, "timeout": s.worker_timeout,
            "keepalive": KEEP_ALIVE, "worker_class": "inferenceserver.worker.Worker", "logger_class": Log, "preload_app": s.worker_preload,
            "proc_name": "azmlinfsrv", "graceful_timeout": 30, "worker_tmp_dir": "/dev/shm",
            "pre_fork": forking, "post_worker_init": initialized, "child_exit": ended,
        }.items():
            self.cfg.set(key, value)

    def load(self):
        from .app import create

        return create(self.settings)
