"""As the owner, whom az has signed in, and as an application with a secret."""
import base64
import os
import unittest
import uuid

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient, CertificatePolicy
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient

VAULT, NAME, VALUE = (os.environ[k] for k in ("KEYVAULT_URL", "SECRET_NAME", "SECRET_VALUE"))


def fresh(what):
    return f"py-{what}-{uuid.uuid4().hex[:8]}"


class Owner(unittest.TestCase):
    def test_default_credential_finds_az(self):
        self.assertEqual(SecretClient(VAULT, DefaultAzureCredential()).get_secret(NAME).value, VALUE)

    def test_client_secret(self):
        tenant, app, secret = (os.environ[k] for k in ("TENANT", "APP_ID", "APP_SECRET"))
        self.assertEqual(SecretClient(VAULT, ClientSecretCredential(tenant, app, secret)).get_secret(NAME).value, VALUE)
        with self.assertRaisesRegex(HttpResponseError, "AADSTS7000215"):
            SecretClient(VAULT, ClientSecretCredential(tenant, app, "wrong")).get_secret(NAME)

    def test_a_secrets_life(self):
        client, name = SecretClient(VAULT, DefaultAzureCredential()), fresh("secret")
        first = client.set_secret(name, "one", content_type="text/plain", tags={"a": "1"})
        client.set_secret(name, "two")
        self.assertEqual(client.get_secret(name).value, "two")
        self.assertEqual(client.get_secret(name, first.properties.version).value, "one")
        self.assertEqual(len(list(client.list_properties_of_secret_versions(name))), 2)
        self.assertIn(name, [s.name for s in client.list_properties_of_secrets()])
        backup = client.backup_secret(name)
        client.begin_delete_secret(name).wait()
        with self.assertRaises(ResourceNotFoundError):
            client.get_secret(name)
        client.begin_recover_deleted_secret(name).wait()
        client.begin_delete_secret(name).wait()
        client.purge_deleted_secret(name)
        client.restore_secret_backup(backup)
        self.assertEqual(client.get_secret(name).value, "two")

    def test_keys(self):
        credential = DefaultAzureCredential()
        client = KeyClient(VAULT, credential)
        crypto = CryptographyClient(client.create_rsa_key(fresh("rsa"), size=2048), credential)
        sealed = crypto.encrypt(EncryptionAlgorithm.rsa_oaep_256, b"a short text")
        self.assertEqual(crypto.decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed.ciphertext).plaintext, b"a short text")
        signer = CryptographyClient(client.create_ec_key(fresh("ec"), curve="P-256"), credential)
        signature = signer.sign(SignatureAlgorithm.es256, bytes(32)).signature
        self.assertTrue(signer.verify(SignatureAlgorithm.es256, bytes(32), signature).is_valid)
        self.assertFalse(signer.verify(SignatureAlgorithm.es256, bytes(31) + b"1", signature).is_valid)

    def test_certificates(self):
        client, name = CertificateClient(VAULT, DefaultAzureCredential()), fresh("cert")
        made = client.begin_create_certificate(name, CertificatePolicy(issuer_name="Self", subject="CN=web.example")).result()
        self.assertEqual(made.policy.subject, "CN=web.example")
        self.assertTrue(base64.b64encode(made.cer))
        client.begin_delete_certificate(name).wait()


if __name__ == "__main__":
    unittest.main(verbosity=2)
