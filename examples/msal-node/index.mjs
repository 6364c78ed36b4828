// The sample of the workload identity quick start for Node.js: reads one
// secret of a key vault, says so, and reads it again every minute. It holds no
// credential and sets no option; the webhook of its cluster gives it the
// identity of its service account.
import { setTimeout as wait } from "node:timers/promises";
import { DefaultAzureCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

const { KEYVAULT_URL, SECRET_NAME } = process.env;
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0)); // as the first process of a container nobody else does

try {
  if (!KEYVAULT_URL || !SECRET_NAME) throw new Error("KEYVAULT_URL and SECRET_NAME are both needed");
  const client = new SecretClient(KEYVAULT_URL, new DefaultAzureCredential());
  for (;;) {
    const { value } = await client.getSecret(SECRET_NAME);
    console.log(`"successfully got secret" secret=${JSON.stringify(value)}`);
    await wait(60_000);
  }
} catch (err) {
  console.error(`"failed to get secret from keyvault" err=${JSON.stringify(String(err))} keyvault=${JSON.stringify(KEYVAULT_URL)} secretName=${JSON.stringify(SECRET_NAME)}`);
  process.exit(1);
}
