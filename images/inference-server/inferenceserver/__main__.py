"""Starts the server: `azmlinfsrv`, or `python3 -m inferenceserver`."""
import argparse
import os
import sys

from . import __version__, log, settings


def arguments(argv):
    parser = argparse.ArgumentParser(prog="azmlinfsrv", description="Start a local server for a scoring script.")
    parser.add_argument("--entry_script", help="the script with init() and run()")
    parser.add_argument("--model_dir", help="the folder of the model, as AZUREML_MODEL_DIR")
    parser.add_argument("--port", type=int, help="where to listen; default 5001")
    parser.add_argument("--health_port", type=int, help="where GET / is answered with SEPERATE_HEALTH_ENDPOINT; default 5000")
    parser.add_argument("--worker_count", type=int, help="how many processes score; default 1")
    parser.add_argument("--appinsights_instrumentation_key", help="is taken, and nothing is sent")
    parser.add_argument("--access_control_allow_origins", help="is taken, and refused: this server has no CORS")
    parser.add_argument("--config_file", help="a JSON file of settings")
    return parser.parse_args(argv)


def banner(s):
    """What the server is and how it is set up, in the words that tools look for."""
    print(f"\nAzure ML Inferencing HTTP server v{__version__}\n(Lazurite's own, with that release's contract)\n")
    print("\nServer Settings\n---------------")
    for text, value in (
        ("Entry Script Name", s.entry_script), ("Model Directory", s.model_dir or None), ("Config File", s.config_file),
        ("Worker Count", s.worker_count), ("Worker Timeout (seconds)", s.worker_timeout), ("Server Port", s.port),
        ("Health Port", s.health_port or s.port), ("Application Insights Enabled", "false"),
        ("Application Insights Key", "AppInsights key provided" if s.app_insights_key else None),
        ("Inferencing HTTP server version", s.server_version),
        ("CORS for the specified origins",
         "CORS cannot be enabled because the flask-cors package is not installed." if s.cors_origins else None),
        ("Create dedicated endpoint for health", "true" if s.health_port else None),
    ):
        print(f"{text}: {value}")
    print("\n\nServer Routes\n---------------")
    print(f"Liveness Probe: GET   127.0.0.1:{s.health_port or s.port}/")
    print(f"Score:          POST  127.0.0.1:{s.port}/score\n", flush=True)


def main(argv=None):
    try:
        s = settings.read(os.environ, arguments(argv))
    except settings.Wrong as ex:
        print("\n===============Configuration Error=================")
        print(ex)
        print("===================================================", flush=True)
        return 3  # as a worker that can't start
    log.setup(s.log_level)
    banner(s)
    sys.path[:0] = [p for p in s.paths if p not in sys.path]
    from . import worker  # after the banner: what it imports takes a while

    return worker.Server(s).run()


if __name__ == "__main__":
    sys.exit(main())
