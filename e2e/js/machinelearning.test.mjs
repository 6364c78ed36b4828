// As the owner, whom az has signed in: workspaces, endpoints and assets of machine learning.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AzureMachineLearningWorkspaces } from "@azure/arm-machinelearning";
import { DefaultAzureCredential } from "@azure/identity";

const { SUBSCRIPTION, ML_GROUP: group, ML_WORKSPACE: workspace } = process.env;
const client = new AzureMachineLearningWorkspaces(new DefaultAzureCredential(), SUBSCRIPTION);
const name = (what) => `js-${what}-${Math.random().toString(16).slice(2, 10)}`;

test("workspaces are read and listed", async () => {
  const ws = await client.workspaces.get(group, workspace);
  assert.equal(ws.provisioningState, "Succeeded");
  assert.ok(ws.storageAccount && ws.keyVault && ws.workspaceId);
  const names = [];
  for await (const w of client.workspaces.listByResourceGroup(group)) names.push(w.name);
  assert.deepEqual(names, [workspace]);
});

test("an endpoint's life", async () => {
  const ep = name("ep");
  const body = { location: "eastus", identity: { type: "SystemAssigned" }, properties: { authMode: "Key", publicNetworkAccess: "Enabled" } };
  const made = await client.onlineEndpoints.beginCreateOrUpdateAndWait(group, workspace, ep, body, { updateIntervalInMs: 500 });
  assert.equal(made.properties.provisioningState, "Succeeded");
  assert.match(made.properties.scoringUri, new RegExp(`^https://${ep}\\.`));
  const keys = await client.onlineEndpoints.listKeys(group, workspace, ep);
  await client.onlineEndpoints.beginRegenerateKeysAndWait(group, workspace, ep, { keyType: "Secondary" }, { updateIntervalInMs: 500 });
  const again = await client.onlineEndpoints.listKeys(group, workspace, ep);
  assert.equal(again.primaryKey, keys.primaryKey);
  assert.notEqual(again.secondaryKey, keys.secondaryKey);
  await client.onlineEndpoints.beginDeleteAndWait(group, workspace, ep, { updateIntervalInMs: 500 });
  await assert.rejects(client.onlineEndpoints.get(group, workspace, ep), { statusCode: 404, code: "ResourceNotFound" });
});

test("assets", async () => {
  const account = (await client.workspaces.get(group, workspace)).storageAccount.split("/").pop();
  const model = await client.modelVersions.createOrUpdate(group, workspace, "js-model", "1", { properties: { modelUri: `https://${account}.blob.core.windows.net/models/m`, modelType: "custom_model" } });
  assert.equal(model.name, "1");
  await client.environmentVersions.createOrUpdate(group, workspace, "js-env", "1", { properties: { image: "lazurite.dev/azureml/sklearn:v1" } });
  const names = [];
  for await (const e of client.environmentContainers.list(group, workspace)) names.push(e.name);
  assert.ok(names.includes("js-env"));
});
