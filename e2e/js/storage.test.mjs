// Blobs: by a connection string, by the owner's token, and by signatures of both.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { BlobSASPermissions, BlobServiceClient, ContainerSASPermissions, generateBlobSASQueryParameters } from "@azure/storage-blob";

const { ACCOUNT, CONNECTION } = process.env;
const byKey = BlobServiceClient.fromConnectionString(CONNECTION);
const byToken = new BlobServiceClient(`https://${ACCOUNT}.blob.core.windows.net`, new DefaultAzureCredential());

const text = async (blob) => (await blob.downloadToBuffer()).toString();

for (const [how, service] of [["a key", byKey], ["a token", byToken]]) {
  test(`a blob's life, by ${how}`, async () => {
    const container = service.getContainerClient(`js-${how.replace(" ", "-")}`);
    await container.create({ metadata: { made: "here" } });
    assert.equal((await container.getProperties()).metadata.made, "here");
    const blob = container.getBlockBlobClient("dir/a b+é.txt");
    await blob.upload("hello", 5, { blobHTTPHeaders: { blobContentType: "text/plain" }, metadata: { color: "blue" }, tier: "Cool" });
    assert.equal(await text(blob), "hello");
    assert.equal((await blob.downloadToBuffer(1, 3)).toString(), "ell");
    const props = await blob.getProperties();
    assert.deepEqual([props.contentType, props.metadata.color, props.accessTier, props.contentLength], ["text/plain", "blue", "Cool", 5]);
    await assert.rejects(blob.upload("x", 1, { conditions: { ifNoneMatch: "*" } }), { code: "BlobAlreadyExists", statusCode: 409 });
    await assert.rejects(blob.upload("x", 1, { conditions: { ifMatch: '"0x1"' } }), { code: "ConditionNotMet", statusCode: 412 });
    const big = randomBytes(5 << 20);
    const large = container.getBlockBlobClient("large");
    await large.uploadData(big, { blockSize: 1 << 20, maxSingleShotSize: 1 << 20, concurrency: 3 });
    assert.equal(Buffer.compare(await large.downloadToBuffer(0, undefined, { blockSize: 1 << 20 }), big), 0);
    assert.equal((await large.getBlockList("all")).committedBlocks.length, 5);
    await large.syncUploadFromURL(blob.url).catch((e) => assert.equal(e.code, "CannotVerifyCopySource"));
    const poller = await container.getBlobClient("copy").beginCopyFromURL(blob.url);
    assert.equal((await poller.pollUntilDone()).copyStatus, "success");
    const names = [];
    for await (const b of container.listBlobsFlat({ includeMetadata: true })) names.push(b.name);
    assert.deepEqual(names, ["copy", "dir/a b+é.txt", "large"]);
    const parts = [];
    for await (const x of container.listBlobsByHierarchy("/")) parts.push(`${x.kind}:${x.name}`);
    assert.deepEqual(parts.sort(), ["blob:copy", "blob:large", "prefix:dir/"]);
    await blob.delete();
    await assert.rejects(blob.getProperties(), { statusCode: 404 });
    assert.equal(await blob.exists(), false);
    assert.equal(await container.exists(), true);
  });
}

test("signatures", async () => {
  const container = byKey.getContainerClient("js-signed");
  await container.create();
  const blob = container.getBlockBlobClient("one");
  await blob.upload("signed", 6);
  const expiresOn = new Date(Date.now() + 3600_000);
  const { BlobClient, ContainerClient } = await import("@azure/storage-blob");
  const anyone = new BlobClient(await blob.generateSasUrl({ permissions: BlobSASPermissions.parse("r"), expiresOn }));
  assert.equal(await text(anyone), "signed");
  await assert.rejects(anyone.delete(), { code: "AuthorizationPermissionMismatch" });
  const lists = new ContainerClient(await container.generateSasUrl({ permissions: ContainerSASPermissions.parse("l"), expiresOn }));
  assert.equal((await lists.listBlobsFlat().next()).value.name, "one");
  const startsOn = new Date(Date.now() - 60_000);
  const key = await byToken.getUserDelegationKey(startsOn, expiresOn);
  for (const version of ["2018-11-09", "2020-02-10", "2020-12-06", "2025-07-05", undefined]) {
    const sas = generateBlobSASQueryParameters({ containerName: "js-signed", blobName: "one", permissions: BlobSASPermissions.parse("r"), startsOn, expiresOn, version }, key, ACCOUNT);
    assert.equal(await text(new BlobClient(`${blob.url}?${sas}`)), "signed", version);
  }
  await assert.rejects(new BlobClient(blob.url).getProperties(), { statusCode: 401 });
});
