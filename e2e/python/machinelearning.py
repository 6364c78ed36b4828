"""Microsoft's azure-ai-ml: connect, and an endpoint without deployments. As the owner, whom az has signed in."""
import os
import unittest
import uuid

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent / "lacking"))  # Debian's azure-ai-ml lacks a package that it imports

from azure.ai.ml import MLClient
from azure.ai.ml.entities import ManagedOnlineEndpoint
from azure.core.exceptions import ResourceNotFoundError
from azure.identity import DefaultAzureCredential

SUBSCRIPTION, GROUP, WORKSPACE = (os.environ[k] for k in ("SUBSCRIPTION", "ML_GROUP", "ML_WORKSPACE"))


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
