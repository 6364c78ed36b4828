"""Blobs: by a connection string, by the owner's token, and by signatures of both."""
import datetime
import os
import unittest

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import (BlobClient, BlobSasPermissions, BlobServiceClient, ContentSettings, generate_account_sas, generate_blob_sas, AccountSasPermissions, ResourceTypes)

ACCOUNT, CONNECTION = os.environ["ACCOUNT"], os.environ["CONNECTION"]
URL = f"https://{ACCOUNT}.blob.core.windows.net"
KEY = CONNECTION.split("AccountKey=")[1].split(";")[0]


def soon(minutes=60):
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(minutes=minutes)


class Blobs(unittest.TestCase):
    def life(self, service, name):
        container = service.create_container(name, metadata={"made": "here"})
        with self.assertRaises(ResourceExistsError):
            service.create_container(name)
        self.assertEqual(container.get_container_properties().metadata, {"made": "here"})
        blob = container.get_blob_client("dir/a b+é.txt")
        blob.upload_blob(b"hello", metadata={"color": "blue"}, content_settings=ContentSettings(content_type="text/plain"), validate_content=True)
        self.assertEqual(blob.download_blob(validate_content=True).readall(), b"hello")
        self.assertEqual(blob.download_blob(offset=1, length=3).readall(), b"ell")
        props = blob.get_blob_properties()
        self.assertEqual((props.content_settings.content_type, props.metadata["color"], props.size), ("text/plain", "blue", 5))
        with self.assertRaises(ResourceExistsError):
            blob.upload_blob(b"x")
        with self.assertRaises(ResourceModifiedError):
            blob.upload_blob(b"x", overwrite=True, etag="0x1", match_condition=__import__("azure.core", fromlist=["MatchConditions"]).MatchConditions.IfNotModified)
        blob.upload_blob(b"", overwrite=True)
        self.assertEqual(blob.download_blob().readall(), b"")
        big = os.urandom(6 << 20)
        with (BlobServiceClient(URL, credential=service.credential, max_single_put_size=1 << 20, max_block_size=1 << 20, max_single_get_size=1 << 20, max_chunk_get_size=1 << 20)) as small:
            large = small.get_blob_client(name, "large")
            large.upload_blob(big, max_concurrency=2)
            self.assertEqual(large.download_blob(max_concurrency=2).readall(), big)
            self.assertEqual(len(large.get_block_list("all")[0]), 6)
        self.assertEqual([b.name for b in container.list_blobs(name_starts_with="l")], ["large"])
        self.assertEqual(sorted(b.name for b in container.walk_blobs()), ["dir/", "large"])
        blob.delete_blob()
        with self.assertRaises(ResourceNotFoundError):
            blob.get_blob_properties()
        self.assertIn(name, [c.name for c in service.list_containers()])
        container.delete_container()
        self.assertFalse(container.exists())

    def test_by_a_key(self):
        self.life(BlobServiceClient.from_connection_string(CONNECTION), "py-key")

    def test_by_a_token(self):
        self.life(BlobServiceClient(URL, credential=DefaultAzureCredential()), "py-token")

    def test_signatures(self):
        service = BlobServiceClient.from_connection_string(CONNECTION)
        blob = service.create_container("py-signed").get_blob_client("one")
        blob.upload_blob(b"signed")
        sas = generate_blob_sas(ACCOUNT, "py-signed", "one", account_key=KEY, permission=BlobSasPermissions(read=True), expiry=soon())
        anyone = BlobClient(URL, "py-signed", "one", credential=sas)
        self.assertEqual(anyone.download_blob().readall(), b"signed")
        with self.assertRaises(HttpResponseError) as refused:
            anyone.delete_blob()
        self.assertEqual(refused.exception.error_code, "AuthorizationPermissionMismatch")
        sas = generate_account_sas(ACCOUNT, KEY, ResourceTypes(service=True), AccountSasPermissions(list=True), soon())
        self.assertIn("py-signed", [c.name for c in BlobServiceClient(URL, credential=sas).list_containers()])
        key = BlobServiceClient(URL, credential=DefaultAzureCredential()).get_user_delegation_key(soon(-1), soon())
        sas = generate_blob_sas(ACCOUNT, "py-signed", "one", user_delegation_key=key, permission=BlobSasPermissions(read=True), expiry=soon())
        self.assertEqual(BlobClient(URL, "py-signed", "one", credential=sas).download_blob().readall(), b"signed")
        with self.assertRaises(ClientAuthenticationError):
            BlobClient(URL, "py-signed", "one", credential=sas.replace("sp=r", "sp=rd")).download_blob()


if __name__ == "__main__":
    unittest.main(verbosity=2)
