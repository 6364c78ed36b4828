"""Microsoft's azure-ai-ml: connect, and with a sample a whole endpoint. As the owner, whom az has signed in."""
import json
import os
import re
import unittest
import uuid

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent / "lacking"))  # Debian's azure-ai-ml lacks a package that it imports

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import ManagedOnlineEndpoint
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

SUBSCRIPTION, GROUP, WORKSPACE = (os.environ[k] for k in ("SUBSCRIPTION", "ML_GROUP", "ML_WORKSPACE"))
SAMPLE = os.environ.get("ML_SAMPLE", "")  # set where deployments can run


def client():
    return MLClient(DefaultAzureCredential(), SUBSCRIPTION, GROUP, WORKSPACE)


def fresh(what):
    return f"py-{what}-{uuid.uuid4().hex[:8]}"


class MachineLearning(unittest.TestCase):
    def test_workspace(self):
        ws = client().workspaces.get(WORKSPACE)
        self.assertEqual(ws.name, WORKSPACE)
        self.assertTrue(ws.storage_account and ws.key_vault and ws.application_insights)
        self.assertIn(WORKSPACE, [w.name for w in client().workspaces.list()])

    def test_an_endpoints_life(self):
        ml, name = client(), fresh("ep")
        made = ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key", tags={"a": "b"})).result()
        self.assertEqual((made.name, made.provisioning_state, made.tags["a"]), (name, "Succeeded", "b"))
        keys = ml.online_endpoints.get_keys(name)
        self.assertNotEqual(keys.primary_key, keys.secondary_key)
        ml.online_endpoints.begin_regenerate_keys(name, key_type="primary").result()
        again = ml.online_endpoints.get_keys(name)
        self.assertNotEqual(again.primary_key, keys.primary_key)
        self.assertEqual(again.secondary_key, keys.secondary_key)
        self.assertIn(name, [e.name for e in ml.online_endpoints.list()])
        ml.online_endpoints.begin_delete(name).result()
        with self.assertRaises(ResourceNotFoundError):
            ml.online_endpoints.get(name)

    @unittest.skipUnless(SAMPLE, "no deployment runs here")
    def test_a_deployments_life(self):
        ml, name, folder = client(), fresh("ep"), pathlib.Path(SAMPLE) / "endpoints/online"
        endpoint = load_online_endpoint(folder / "managed/sample/endpoint.yml")
        endpoint.name = name
        ml.online_endpoints.begin_create_or_update(endpoint).result()
        blue = load_online_deployment(folder / "managed/sample/blue-deployment.yml")
        blue.endpoint_name = name
        self.assertEqual(ml.online_deployments.begin_create_or_update(blue).result().provisioning_state, "Succeeded")
        request = folder / "model-1/sample-request.json"
        said = ml.online_endpoints.invoke(name, request_file=str(request), deployment_name="blue")
        self.assertRegex(said, r"11055\.9772")
        made = ml.online_endpoints.get(name)
        self.assertEqual(made.traffic, {"blue": 0})
        made.traffic = {"blue": 100}
        self.assertEqual(ml.online_endpoints.begin_create_or_update(made).result().traffic, {"blue": 100})
        self.assertEqual(len(json.loads(ml.online_endpoints.invoke(name, request_file=str(request)))), 2)
        self.assertTrue(re.search("POST /score 200", ml.online_deployments.get_logs("blue", name, lines=100)))
        with self.assertRaises(HttpResponseError):
            ml.online_deployments.begin_delete("blue", name).result()
        ml.online_endpoints.begin_delete(name).result()


if __name__ == "__main__":
    unittest.main(verbosity=2)
