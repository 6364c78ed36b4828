// As a service account that an identity trusts: no key, no secret, no option.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DefaultAzureCredential, WorkloadIdentityCredential } from "@azure/identity";
import { KeyClient } from "@azure/keyvault-keys";
import { SecretClient } from "@azure/keyvault-secrets";

const { KEYVAULT_URL, SECRET_NAME, SECRET_VALUE } = process.env;

for (const Credential of [WorkloadIdentityCredential, DefaultAzureCredential]) {
  test(`${Credential.name} reads the secret`, async () => {
    const secret = await new SecretClient(KEYVAULT_URL, new Credential()).getSecret(SECRET_NAME);
    assert.equal(secret.value, SECRET_VALUE);
    assert.match(secret.properties.version, /^[0-9a-f]{32}$/);
  });
}

test("what the identity has no role for is refused", async () => {
  const credential = new DefaultAzureCredential();
  const refused = { name: "RestError", statusCode: 403, code: "Forbidden" };
  await assert.rejects(new SecretClient(KEYVAULT_URL, credential).setSecret("mine", "x"), refused);
  await assert.rejects(new KeyClient(KEYVAULT_URL, credential).createRsaKey("mine"), refused);
});
