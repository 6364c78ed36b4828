"""With a managed identity, as an App Service has it."""
import os
import unittest

from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

VAULT, NAME, VALUE = (os.environ[k] for k in ("KEYVAULT_URL", "SECRET_NAME", "SECRET_VALUE"))


class Managed(unittest.TestCase):
    def test_both(self):
        for credential in (ManagedIdentityCredential(), DefaultAzureCredential()):
            self.assertEqual(SecretClient(VAULT, credential).get_secret(NAME).value, VALUE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
