"""Microsoft's azure-ai-ml: a deployment of the sample is made, scored, given traffic and read. As the owner, whom az has signed in."""
import json
import os
import pathlib
import sys
import unittest
import uuid

sys.path.append(str(pathlib.Path(__file__).parent / "lacking"))  # Debian's azure-ai-ml lacks a package that it imports

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import Environment
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

SUBSCRIPTION, GROUP, WORKSPACE, SAMPLE = (os.environ[k] for k in ("SUBSCRIPTION", "ML_GROUP", "ML_WORKSPACE", "ML_SAMPLE"))


class Deployment(unittest.TestCase):
    def test_its_life(self):
        ml, folder = MLClient(DefaultAzureCredential(), SUBSCRIPTION, GROUP, WORKSPACE), pathlib.Path(SAMPLE) / "endpoints/online"
        endpoint = load_online_endpoint(folder / "managed/sample/endpoint.yml")
        endpoint.name = name = f"py-{uuid.uuid4().hex[:8]}"
        ml.online_endpoints.begin_create_or_update(endpoint).result()
        blue = load_online_deployment(folder / "managed/sample/blue-deployment.yml")
        blue.endpoint_name = name
        blue.environment = Environment(image="lazurite.dev/azureml/sklearn:v1")  # the sample's conda file asks for other versions
        self.assertEqual(ml.online_deployments.begin_create_or_update(blue).result().provisioning_state, "Succeeded")
        request = str(folder / "model-1/sample-request.json")
        self.assertRegex(ml.online_endpoints.invoke(name, request_file=request, deployment_name="blue"), r"11055\.9772")
        made = ml.online_endpoints.get(name)
        self.assertEqual(made.traffic, {"blue": 0})
        made.traffic = {"blue": 100}
        self.assertEqual(ml.online_endpoints.begin_create_or_update(made).result().traffic, {"blue": 100})
        self.assertEqual(len(json.loads(ml.online_endpoints.invoke(name, request_file=request))), 2)
        self.assertIn("POST /score 200", ml.online_deployments.get_logs("blue", name, lines=100))
        with self.assertRaises(HttpResponseError):  # it has traffic
            ml.online_deployments.begin_delete("blue", name).result()
        ml.online_endpoints.begin_delete(name).result()


if __name__ == "__main__":
    unittest.main(verbosity=2)
