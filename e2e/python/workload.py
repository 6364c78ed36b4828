"""As a service account that an identity trusts: no key, no secret, no option."""
import os
import unittest

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientAssertionCredential, DefaultAzureCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

VAULT, NAME, VALUE = (os.environ[k] for k in ("KEYVAULT_URL", "SECRET_NAME", "SECRET_VALUE"))


class Workload(unittest.TestCase):
    def test_client_assertion(self):
        with open(os.environ["AZURE_FEDERATED_TOKEN_FILE"]) as f:
            token = f.read()
        credential = ClientAssertionCredential(os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"], lambda: token)
        self.assertEqual(SecretClient(VAULT, credential).get_secret(NAME).value, VALUE)

    def test_managed_identity_exchanges_the_token(self):
        self.assertEqual(SecretClient(VAULT, ManagedIdentityCredential()).get_secret(NAME).value, VALUE)

    def test_default_credential(self):
        self.assertEqual(SecretClient(VAULT, DefaultAzureCredential()).get_secret(NAME).value, VALUE)

    def test_writing_is_refused(self):
        with self.assertRaises(HttpResponseError) as refused:
            SecretClient(VAULT, DefaultAzureCredential()).set_secret("mine", "x")
        self.assertEqual((refused.exception.status_code, refused.exception.error.code), (403, "Forbidden"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
