"""Scores models of MLflow with the sklearn flavour: there is no script, MLmodel says what there is.

Formats: https://mlflow.org/docs/latest/models.html (MLmodel, signature, inputs of the scoring server) and
https://learn.microsoft.com/azure/machine-learning/how-to-deploy-mlflow-models (input_data).
"""
import json
import logging
import os
import sys

from .script import Failed, Refused

logger = logging.getLogger("azmlinfsrv.mlflow")

INPUTS = ("input_data", "dataframe_split", "dataframe_records", "instances", "inputs")


class Wrong(Exception):
    """A request that the model can't be asked with."""


def find(folder, depth=3):
    """The folder that holds MLmodel: this one, or one below it."""
    if not folder or not os.path.isdir(folder):
        return None
    if os.path.isfile(os.path.join(folder, "MLmodel")):
        return folder
    if depth > 0:
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            found = find(entry.path, depth - 1) if entry.is_dir(follow_symlinks=False) else None
            if found:
                return found
    return None


def describe(folder):
    """Reads MLmodel: (the pickle's path, the method that predicts, the columns of the signature or None); raises Failed."""
    import yaml

    path = os.path.join(folder, "MLmodel")
    try:
        with open(path, encoding="utf-8") as f:
            content = yaml.safe_load(f)
        flavors = dict(content["flavors"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as ex:
        raise Failed(f"{path} is no MLmodel: {ex!r}") from None
    flavor = flavors.get("sklearn")
    if not isinstance(flavor, dict):
        raise Failed(f"{path} has the flavours {', '.join(sorted(map(str, flavors)))}, and without a script only sklearn is scored")
    if flavor.get("serialization_format") == "skops":
        raise Failed(f"{path}: the model is written with skops, which this image does not have")
    pickled = flavor.get("pickled_model") or (flavors.get("python_function") or {}).get("model_path")
    if not isinstance(pickled, str):
        raise Failed(f"{path} does not name its pickled_model")
    _versions(flavor.get("sklearn_version"), (flavors.get("python_function") or {}).get("python_version"))
    for name in filter(None, (flavor.get("code"), (flavors.get("python_function") or {}).get("code"))):
        sys.path.append(_inside(folder, str(name)))
    return _inside(folder, pickled), str(flavor.get("pyfunc_predict_fn") or "predict"), _columns(path, content.get("signature"))


def _versions(sklearn, python):
    """Says in the log what the model was made with, where that is not what there is."""
    import importlib.metadata

    for name, asked, has in (("scikit-learn", sklearn, importlib.metadata.version("scikit-learn")), ("python", python, "%d.%d.%d" % sys.version_info[:3])):
        if asked and str(asked) != has:
            logger.warning("the model was made with %s %s, the image has %s", name, asked, has)


def _inside(folder, name):
    path = os.path.realpath(os.path.join(folder, name))
    if os.path.commonpath((path, os.path.realpath(folder))) != os.path.realpath(folder):
        raise Failed(f"MLmodel names {name}, which is outside the model")
    return path


def _columns(path, signature):
    """The names of the columns of the signature's inputs; None where it has none."""
    if not isinstance(signature, dict) or not signature.get("inputs"):
        return None
    try:
        inputs = json.loads(signature["inputs"])
        names = [i.get("name") for i in inputs if i.get("required", True)]
    except (TypeError, ValueError, AttributeError) as ex:
        raise Failed(f"{path}: the signature's inputs are not JSON: {ex}") from None
    return names if names and all(isinstance(n, str) for n in names) else None


class Model:
    """A scoring script made of a model."""

    def __init__(self, folder):
        self.folder = folder

    def init(self):
        import joblib

        path, predict, self.columns = describe(self.folder)
        self.model = joblib.load(path)
        self.predict = getattr(self.model, predict)
        self.named = getattr(self.model, "feature_names_in_", None) is not None
        if self.named:
            import pandas  # noqa: F401, now rather than at the first request
        logger.info("model loaded from %s", path)

    def run(self, body):
        import warnings

        try:
            columns, rows, index = parse(body)
            columns, rows = ordered(columns, rows, self.columns)
        except Wrong as ex:
            return Refused(str(ex))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X (has|does not have valid) feature names")
            return plain(self.predict(self._table(columns, rows, index)))

    def _table(self, columns, rows, index):
        numbers = all(isinstance(v, (int, float)) for r in rows if isinstance(r, list) for v in r)
        if self.named or columns and not numbers:
            import pandas

            return pandas.DataFrame(rows, columns=columns, index=index)
        import numpy

        return numpy.array(rows)


def parse(body):
    """The table of a request: (names of columns or None, rows, index or None); raises Wrong."""
    try:
        content = json.loads(body)
    except ValueError as ex:
        raise Wrong(f"the body is not JSON: {ex}") from None
    given = [k for k in INPUTS if isinstance(content, dict) and k in content]
    if len(given) != 1:
        raise Wrong("the body must be a JSON object with one of: " + ", ".join(INPUTS))
    data = content[given[0]]
    if given[0] == "dataframe_records" or isinstance(data, list) and data and all(isinstance(r, dict) for r in data):
        return _records(data)
    if isinstance(data, dict) and "data" in data:
        columns, rows, index = data.get("columns"), data["data"], data.get("index")
        if unknown := set(data) - {"columns", "data", "index"}:
            raise Wrong("a table has columns, index and data, and not " + ", ".join(sorted(unknown)))
    elif isinstance(data, dict):
        columns, rows, index = list(data), _by_column(data), None
    else:
        columns, rows, index = None, data, None
    if not isinstance(rows, list) or columns is not None and (not isinstance(columns, list) or not all(isinstance(c, (str, int)) for c in columns)):
        raise Wrong("data must be a list of rows, and columns a list of names")
    if columns is not None and any(not isinstance(r, list) or len(r) != len(columns) for r in rows):
        raise Wrong(f"each row must have {len(columns)} values, as there are columns")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise Wrong("index must have one entry for each row")
    if columns is None and len({len(r) if isinstance(r, list) else -1 for r in rows}) > 1:
        raise Wrong("the rows are not of one length")
    return columns, rows, index


def _records(data):
    if not isinstance(data, list) or not data or not all(isinstance(r, dict) and set(r) == set(data[0]) for r in data):
        raise Wrong("records must be objects with the same names")
    columns = list(data[0])
    return columns, [[r[c] for c in columns] for r in data], None


def _by_column(data):
    if not data or not all(isinstance(v, list) for v in data.values()) or len({len(v) for v in data.values()}) != 1:
        raise Wrong("a table by columns has a list for each, all of one length")
    return [list(r) for r in zip(*data.values())]


def ordered(columns, rows, wanted):
    """The table with the columns that the signature wants, in its order; raises Wrong."""
    if wanted is None:
        return columns, rows
    if columns is None or all(isinstance(c, int) for c in columns):
        if any(not isinstance(r, list) or len(r) != len(wanted) for r in rows):
            raise Wrong(f"each row must have {len(wanted)} values: {', '.join(wanted)}")
        return wanted, rows
    missing = [w for w in wanted if w not in columns]
    if missing:
        raise Wrong("these columns of the model's signature are missing: " + ", ".join(missing))
    at = [columns.index(w) for w in wanted]
    return wanted, [[r[i] for i in at] for r in rows]


def plain(answer):
    """What JSON can say of an answer."""
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        return answer.to_dict(orient="records")
    return answer.tolist() if hasattr(answer, "tolist") else answer
