"""The settings: arguments, then the environment, then the configuration file."""
import dataclasses
import json
import os
from typing import List, Optional

from . import __version__


class Wrong(Exception):
    """A setting that can't be what it is."""


@dataclasses.dataclass
class Settings:
    app_root: str
    source_dir: Optional[str]
    entry_script: Optional[str]
    model_dir: str
    config_file: Optional[str]
    service_name: str
    service_version: str
    service_path_prefix: str
    scoring_timeout: int  # milliseconds
    worker_count: int
    worker_timeout: int  # seconds
    worker_preload: bool
    log_level: str
    port: int
    health_port: Optional[int]  # None: the same as port
    cors_origins: Optional[str]
    app_insights_key: Optional[str]
    app_insights_enabled: bool
    server_version: Optional[str]  # what x-ms-server-version says

    @property
    def paths(self) -> List[str]:
        """Where scripts are looked for."""
        found = [self.app_root]
        if self.source_dir:
            found.insert(0, os.path.join(self.app_root, self.source_dir))
        return found

    @property
    def script(self) -> Optional[str]:
        """The path of the entry script."""
        return os.path.join(self.paths[0], self.entry_script) if self.entry_script else None


# The names that a configuration file may use beside those of the environment.
FILE_NAMES = {
    "AML_APP_ROOT": "app_root", "AZUREML_SOURCE_DIRECTORY": "source_dir", "AZUREML_ENTRY_SCRIPT": "entry_script",
    "AZUREML_MODEL_DIR": "azureml_model_dir", "SERVICE_NAME": "service_name", "SERVICE_VERSION": "service_version",
    "SERVICE_PATH_PREFIX": "service_path_prefix", "SCORING_TIMEOUT_MS": "scoring_timeout", "AZUREML_LOG_LEVEL": "log_level",
    "AML_APP_INSIGHTS_ENABLED": "app_insights_enabled", "AML_APP_INSIGHTS_KEY": "app_insights_key",
    "AML_CORS_ORIGINS": "cors_origins", "AZUREML_DEBUG_PORT": "debug_port",
}


def _file(env, entry_script):
    """The configuration file and what it says, by names of the environment."""
    root = env.get("AML_APP_ROOT", "/var/azureml-app")
    candidates = [env.get("AZUREML_CONFIG_FILE"), os.path.join(root, "config.json")]
    if entry_script:
        candidates.append(os.path.join(os.path.dirname(os.path.join(root, entry_script)), "config.json"))
    for path in candidates:
        try:
            if not path or os.stat(path).st_size == 0:
                continue
            with open(path, encoding="utf-8") as f:
                content = json.load(f)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as ex:
            raise Wrong(f"AZUREML_CONFIG_FILE: {path}: {ex}") from None
        if not isinstance(content, dict):
            raise Wrong(f"AZUREML_CONFIG_FILE: {path} holds no JSON object")
        by_file_name = {v: k for k, v in FILE_NAMES.items()}
        return path, {by_file_name.get(k, k): v for k, v in content.items()}
    return None, {}


def read(env, args) -> Settings:
    """Reads the settings; raises Wrong."""
    root = env.get("AML_APP_ROOT") or (os.getcwd() if args.entry_script else "/var/azureml-app")
    entry = os.path.abspath(args.entry_script) if args.entry_script else env.get("AZUREML_ENTRY_SCRIPT")
    if args.config_file:
        env = {**env, "AZUREML_CONFIG_FILE": os.path.abspath(args.config_file)}
    config_file, content = _file({**env, "AML_APP_ROOT": root}, entry)

    def get(name, default=None):
        value = env.get(name)
        return content.get(name, default) if value is None or value == "" else value

    def number(name, default, low, high):
        value = get(name, default)
        try:
            n = int(value)
        except (TypeError, ValueError):
            raise Wrong(f"{name}: {value!r} is not a whole number (environment variable: {name})") from None
        if not low <= n <= high:
            raise Wrong(f"{name}: {n} is not from {low} to {high} (environment variable: {name})")
        return n

    def port(given, default):
        if given is not None and not 0 < given < 65536:
            raise Wrong(f"{given} is not a port")
        return given or default

    def yes(name):
        return str(get(name, "")).lower() == "true"

    if get("AZUREML_DEBUG_PORT"):
        raise Wrong("AZUREML_DEBUG_PORT: this image has no debugpy, so that no debugger can be waited for")
    level = str(get("AZUREML_LOG_LEVEL", "INFO")).upper()
    if level not in ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"):
        raise Wrong(f"AZUREML_LOG_LEVEL: {level!r} is no level (environment variable: AZUREML_LOG_LEVEL)")
    return Settings(
        app_root=str(get("AML_APP_ROOT", root)), source_dir=get("AZUREML_SOURCE_DIRECTORY"),
        entry_script=entry or get("AZUREML_ENTRY_SCRIPT"), model_dir=args.model_dir or get("AZUREML_MODEL_DIR", ""),
        config_file=config_file, service_name=str(get("SERVICE_NAME", "ML service")),
        service_version=str(get("SERVICE_VERSION", "1.0")), service_path_prefix=str(get("SERVICE_PATH_PREFIX", "")),
        scoring_timeout=number("SCORING_TIMEOUT_MS", 3600 * 1000, 1, 2**31),
        worker_count=args.worker_count or number("WORKER_COUNT", 1, 1, 256),
        worker_timeout=number("WORKER_TIMEOUT", 300, 0, 2**31), worker_preload=yes("WORKER_PRELOAD"), log_level=level,
        port=port(args.port, 5001), health_port=port(args.health_port, 5000) if yes("SEPERATE_HEALTH_ENDPOINT") else None,
        cors_origins=args.access_control_allow_origins or get("AML_CORS_ORIGINS"),
        app_insights_key=args.appinsights_instrumentation_key or get("AML_APP_INSIGHTS_KEY"),
        app_insights_enabled=yes("AML_APP_INSIGHTS_ENABLED") or bool(args.appinsights_instrumentation_key),
        server_version=f"azmlinfsrv/{__version__}" if str(get("SERVER_VERSION_LOG_RESPONSE_ENABLED", "true")).lower() == "true" else None,
    )
