"""What azure-ai-ml takes of pydash, which Debian's package of it lacks: get, omit, and objects.get and objects.set_."""
import types


def _steps(path):
    return path.split(".") if isinstance(path, str) else list(path)


def get(obj, path, default=None):
    for key in _steps(path):
        try:
            obj = obj[key] if isinstance(obj, dict) else obj[int(key)] if isinstance(obj, list) else getattr(obj, key)
        except (KeyError, IndexError, ValueError, AttributeError):
            return default
    return obj


def set_(obj, path, value):
    *above, last = _steps(path)
    at = obj
    for key in above:
        at = at.setdefault(key, {})
    at[last] = value
    return obj


def omit(obj, names):
    return {k: v for k, v in obj.items() if k not in names}


objects = types.SimpleNamespace(get=get, set_=set_, omit=omit)
