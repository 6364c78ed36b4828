// With a managed identity, as an App Service has it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DefaultAzureCredential, ManagedIdentityCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

const { KEYVAULT_URL, SECRET_NAME, SECRET_VALUE } = process.env;

for (const Credential of [ManagedIdentityCredential, DefaultAzureCredential]) {
  test(`${Credential.name} reads the secret`, async () => {
    const secret = await new SecretClient(KEYVAULT_URL, new Credential()).getSecret(SECRET_NAME);
    assert.equal(secret.value, SECRET_VALUE);
  });
}
