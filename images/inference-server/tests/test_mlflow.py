"""Models of MLflow without a script."""
import json
import pathlib
import pickle

from server_case import HERE, ServerCase
from inferenceserver import mlflow, script

# y = 100 + 2a + 3b, of columns a and b.
MLMODEL = """artifact_path: model
flavors:
  python_function: {env: conda.yaml, loader_module: mlflow.sklearn, model_path: model.pkl, python_version: 3.8.5}
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle, sklearn_version: 1.0.2}
"""
SIGNATURE = """signature:
  inputs: '[{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]'
  outputs: '[{"type": "double"}]'
"""


class Model(ServerCase):
    def model(self, frame=False, signature=""):
        import numpy
        from sklearn.linear_model import LinearRegression

        rows = numpy.array([[0, 0], [1, 0], [0, 1], [2, 5]])
        table = rows
        if frame:
            import pandas

            table = pandas.DataFrame(rows, columns=["a", "b"])
        made = LinearRegression().fit(table, 100 + rows @ [2, 3])
        folder = pathlib.Path(self.app / "azureml-models" / "m" / "1" / "model")
        folder.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(pickle.dumps(made))
        (folder / "MLmodel").write_text(MLMODEL + signature)
        return str(folder.parent)

    def test_formats(self):
        self.start(None, AZUREML_MODEL_DIR=self.model())
        for body in (
            {"input_data": {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 1], [10, 0]]}}, {"input_data": [[1, 1], [10, 0]]}, {"inputs": [[1, 1], [10, 0]]},
            {"inputs": {"a": [1, 10], "b": [1, 0]}}, {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 1], [10, 0]]}}, {"dataframe_records": [{"a": 1, "b": 1}, {"a": 10, "b": 0}]}, {"instances": [[1, 1], [10, 0]]},
        ):
            got = self.ask("POST", "/score", json.dumps(body))
            self.assertEqual((got.status, [round(v, 9) for v in got.json]), (200, [105, 120]), body)
        self.assertIn("POST /score 200 ", self.output())
        self.assertIn("the model was made with scikit-learn 1.0.2, the image has ", self.output())

    def test_what_cannot_be_asked(self):
        self.start(None, AZUREML_MODEL_DIR=self.model())
        for body in ("", "[]", "{}", '{"data": [[1, 2]]}', '{"input_data": [[1, 2]], "inputs": [[1, 2]]}', '{"input_data": 7}', '{"input_data": [[1], [1, 2]]}', '{"input_data": {"columns": ["a"], "data": [[1, 2]]}}',
                     '{"input_data": {"columns": 5, "data": []}}', '{"input_data": {"data": [[1, 2]], "index": [1, 2]}}', '{"dataframe_records": [{"a": 1}, {"b": 1}]}', '{"inputs": {"a": 1}}', '{"input_data": {"data": [[1, 2]], "dtype": "x"}}'):
            got = self.ask("POST", "/score", body)
            self.assertEqual((got.status, list(got.json)), (400, ["message"]), body)

    def test_a_signature_orders_and_demands_columns(self):
        self.start(None, AZUREML_MODEL_DIR=self.model(frame=True, signature=SIGNATURE))
        got = self.ask("POST", "/score", '{"input_data": {"columns": ["x", "b", "a"], "data": [["", 0, 10]]}}')
        self.assertEqual((got.status, [round(v, 9) for v in got.json]), (200, [120]))
        self.assertEqual([round(v, 9) for v in self.ask("POST", "/score", '{"input_data": [[10, 0]]}').json], [120])
        got = self.ask("POST", "/score", '{"input_data": {"columns": ["a"], "data": [[1]]}}')
        self.assertEqual((got.status, got.json["message"]), (400, "these columns of the model's signature are missing: b"))
        self.assertEqual(self.ask("POST", "/score", '{"input_data": [[1]]}').status, 400)

    def test_models_that_cannot_be_scored(self):
        for text, why in (("{", "no MLmodel"), ("flavors: {pytorch: {}}", "the flavours pytorch"), ("flavors: {sklearn: {pickled_model: ../../x}}", "outside the model"),
                          ("flavors: {sklearn: {}}", "does not name its pickled_model"), ("flavors: {sklearn: {serialization_format: skops}}", "skops"),
                          ("flavors: {sklearn: {pickled_model: m}}\nsignature: {inputs: 'x'}", "not JSON")):
            (self.app / "MLmodel").write_text(text)
            with self.assertRaisesRegex(script.Failed, why):
                mlflow.describe(str(self.app))

    def test_the_sample_of_the_documents(self):
        """The pickle of Azure's samples: scikit-learn 0.24.2, protocol 3."""
        sample = HERE.parents[2] / "e2e" / "walkthroughs" / "sample" / "endpoints" / "online"
        if not sample.exists():
            self.fail(f"{sample} is not there")
        self.start(None, AML_APP_ROOT=str(sample / "model-1"), AZUREML_ENTRY_SCRIPT="onlinescoring/score.py", AZUREML_MODEL_DIR=str(sample / "model-1"))
        got = self.ask("POST", "/score", (sample / "model-1" / "sample-request.json").read_text())
        self.assertEqual((got.status, got.body), (200, "[11055.977245525679, 4503.079536107787]"))
        self.assertIn("root - scoring 2 rows", self.output())

    def test_the_second_sample(self):
        sample = HERE.parents[2] / "e2e" / "walkthroughs" / "sample" / "endpoints" / "online"
        self.start(None, AML_APP_ROOT=str(sample / "model-2"), AZUREML_ENTRY_SCRIPT="onlinescoring/score.py", AZUREML_MODEL_DIR=str(sample / "model-2"))
        self.assertEqual(self.ask("POST", "/score", '{"data": []}').body, "[0.5, 0.5]")
