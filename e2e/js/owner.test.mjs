// As the owner, whom az has signed in, and as an application with a secret.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientSecretCredential, DefaultAzureCredential, EnvironmentCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";
import { SecretClient } from "@azure/keyvault-secrets";

const { KEYVAULT_URL, SECRET_NAME, SECRET_VALUE, TENANT, APP_ID, APP_SECRET } = process.env;
const name = (what) => `js-${what}-${Math.random().toString(16).slice(2, 10)}`;

test("DefaultAzureCredential finds az", async () => {
  const secret = await new SecretClient(KEYVAULT_URL, new DefaultAzureCredential()).getSecret(SECRET_NAME);
  assert.equal(secret.value, SECRET_VALUE);
});

test("ClientSecretCredential reads the secret, and a wrong one is named as such", async () => {
  const secret = await new SecretClient(KEYVAULT_URL, new ClientSecretCredential(TENANT, APP_ID, APP_SECRET)).getSecret(SECRET_NAME);
  assert.equal(secret.value, SECRET_VALUE);
  const wrong = new SecretClient(KEYVAULT_URL, new ClientSecretCredential(TENANT, APP_ID, "wrong"));
  await assert.rejects(wrong.getSecret(SECRET_NAME), /AADSTS7000215/);
});

test("EnvironmentCredential reads the secret", async () => {
  Object.assign(process.env, { AZURE_TENANT_ID: TENANT, AZURE_CLIENT_ID: APP_ID, AZURE_CLIENT_SECRET: APP_SECRET });
  const secret = await new SecretClient(KEYVAULT_URL, new EnvironmentCredential()).getSecret(SECRET_NAME);
  for (const k of ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]) delete process.env[k];
  assert.equal(secret.value, SECRET_VALUE);
});

test("a secret's life", async () => {
  const client = new SecretClient(KEYVAULT_URL, new DefaultAzureCredential());
  const n = name("secret");
  const first = await client.setSecret(n, "one", { contentType: "text/plain", tags: { a: "1" } });
  await client.setSecret(n, "two");
  assert.equal((await client.getSecret(n)).value, "two");
  assert.equal((await client.getSecret(n, { version: first.properties.version })).value, "one");
  const versions = [];
  for await (const p of client.listPropertiesOfSecretVersions(n)) versions.push(p.version);
  assert.equal(versions.length, 2);
  const backup = await client.backupSecret(n);
  await (await client.beginDeleteSecret(n)).pollUntilDone();
  await assert.rejects(client.getSecret(n), { statusCode: 404, code: "SecretNotFound" });
  await (await client.beginRecoverDeletedSecret(n)).pollUntilDone();
  await (await client.beginDeleteSecret(n)).pollUntilDone();
  await client.purgeDeletedSecret(n);
  await client.restoreSecretBackup(backup);
  assert.equal((await client.getSecret(n)).value, "two");
});

test("keys: made, listed, used, rotated", async () => {
  const credential = new DefaultAzureCredential();
  const client = new KeyClient(KEYVAULT_URL, credential);
  const rsa = await client.createRsaKey(name("rsa"), { keySize: 2048 });
  const crypto = new CryptographyClient(rsa, credential);
  const text = Buffer.from("a short text");
  const sealed = await crypto.encrypt({ algorithm: "RSA-OAEP-256", plaintext: text });
  const opened = await crypto.decrypt({ algorithm: "RSA-OAEP-256", ciphertext: sealed.result });
  assert.deepEqual(Buffer.from(opened.result), text);
  const ec = await client.createEcKey(name("ec"), { curve: "P-256" });
  const signer = new CryptographyClient(ec, credential);
  const signed = await signer.signData("ES256", text);
  assert.equal((await signer.verifyData("ES256", text, signed.result)).result, true);
  assert.equal((await signer.verifyData("ES256", Buffer.from("another"), signed.result)).result, false);
  const rotated = await client.rotateKey(rsa.name);
  assert.notEqual(rotated.properties.version, rsa.properties.version);
  const names = [];
  for await (const k of client.listPropertiesOfKeys()) names.push(k.name);
  assert.ok(names.includes(rsa.name) && names.includes(ec.name));
});
