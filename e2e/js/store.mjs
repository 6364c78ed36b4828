// The store's admin page in a browser: a person adds a product whose description a model writes; then the
// service's role is taken away, and the page says why there is no description.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { STORE, CHROMIUM, SCREENSHOTS, PRINCIPAL, SCOPE } = process.env;
const role = "Cognitive Services OpenAI User";
const az = (...args) => execFileSync("az", args, { stdio: ["ignore", "pipe", "inherit"] });
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// accessible says that axe finds nothing on the page that keeps people out, in light and in dark.
async function accessible(page, where) {
  await page.evaluate(axe);
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const { violations } = await page.evaluate(() => axe.run());
    assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`), [], `${where}, ${colorScheme}`);
  }
}

const profile = mkdtempSync(join(tmpdir(), "laz-browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: CHROMIUM, headless: true, viewport: { width: 1280, height: 900 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"],
});
try {
  const page = browser.pages()[0] ?? (await browser.newPage());
  page.setDefaultTimeout(30_000);
  const wrong = [], away = [];
  page.on("pageerror", (e) => wrong.push(e.message));
  page.on("request", (r) => new URL(r.url()).origin === new URL(STORE).origin || r.url().startsWith("data:") || away.push(r.url()));
  await page.goto(STORE);
  await page.getByText("AI service is up").waitFor();
  const products = page.getByRole("list", { name: "Products" }).getByRole("listitem");
  await products.first().waitFor();
  const before = await products.count();
  await accessible(page, "the list");

  // Add a product: the model has to be asked for something, then it writes.
  await page.getByRole("button", { name: "Add product" }).click();
  const dialog = page.getByRole("dialog", { name: "Add a product" });
  await dialog.getByRole("button", { name: "Ask AI" }).click();
  await dialog.getByText("The AI needs a name to write about.").waitFor();
  await accessible(page, "the form");
  await dialog.getByLabel("Name").fill("Salty Sailor rope");
  await dialog.getByLabel("Price in dollars").fill("12.50");
  await dialog.getByLabel("Keywords").fill("dog, toy, rope");
  await dialog.getByRole("button", { name: "Ask AI" }).click();
  await dialog.getByText("Written by the AI", { exact: true }).waitFor();
  const text = await dialog.getByLabel("Description").inputValue();
  assert.match(text, /rope/i);
  assert.match(text, /dog/i);
  assert.match(text, /toy/i);
  await page.screenshot({ path: join(SCREENSHOTS, "store-description.png") });
  await dialog.getByRole("button", { name: "Save product" }).click();
  await page.getByText("Product added").waitFor();
  assert.equal(await products.count(), before + 1);
  const mine = products.filter({ has: page.getByRole("heading", { name: "Salty Sailor rope" }) });
  assert.equal((await mine.locator(".about").textContent()).trim(), text);
  await page.screenshot({ path: join(SCREENSHOTS, "store-listed.png") });

  // The role goes; nothing is started again, and what was written stays.
  az("role", "assignment", "delete", "--assignee", PRINCIPAL, "--role", role, "--scope", SCOPE);
  await page.getByRole("button", { name: "Edit Salty Sailor rope" }).click();
  const edit = page.getByRole("dialog", { name: "Edit product" });
  await edit.getByLabel("Keywords").fill("cat");
  await edit.getByRole("button", { name: "Ask AI" }).click();
  const said = edit.locator("#said", { hasText: /PermissionDenied.*lacks the required data action.*Cognitive Services OpenAI User/s });
  await said.waitFor();
  assert.equal(await edit.getByLabel("Description").inputValue(), text);
  await accessible(page, "the refusal");
  await page.screenshot({ path: join(SCREENSHOTS, "store-refused.png") });

  // And it comes back.
  az("role", "assignment", "create", "--assignee-object-id", PRINCIPAL, "--assignee-principal-type", "ServicePrincipal", "--role", role, "--scope", SCOPE);
  await edit.getByRole("button", { name: "Ask AI" }).click();
  await edit.getByText("Written by the AI", { exact: true }).waitFor();
  await edit.getByRole("button", { name: "Undo" }).click();
  assert.equal(await edit.getByLabel("Description").inputValue(), text);
  page.once("dialog", (d) => d.accept());
  await edit.getByRole("button", { name: "Remove product" }).click();
  await page.getByText("Product removed").waitFor();
  assert.equal(await products.count(), before);
  assert.deepEqual(wrong, [], "errors of the page");
  assert.deepEqual(away, [], "requests to elsewhere");
} catch (error) {
  await browser.pages()[0]?.screenshot({ path: join(SCREENSHOTS, "store-failed.png") }).catch(() => {});
  throw error;
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
