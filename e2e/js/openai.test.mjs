// OpenAI's own package, on Azure's surface and on /openai/v1/, with a token and with a key.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DefaultAzureCredential, getBearerTokenProvider } from "@azure/identity";
import OpenAI, { AzureOpenAI } from "openai";
import { ProxyAgent } from "undici";

const { AOAI_ENDPOINT: endpoint, AOAI_KEY: apiKey, OTHER_KEY, FAKE } = process.env;
const apiVersion = "2025-04-01-preview";
const azureADTokenProvider = getBearerTokenProvider(new DefaultAzureCredential(), "https://cognitiveservices.azure.com/.default");

// Node.js 24 takes the proxy of its environment (NODE_USE_ENV_PROXY); older ones are told of it as the package's README says.
const own = Number(process.versions.node.split(".")[0]) >= 24 ? {} : { fetchOptions: { dispatcher: new ProxyAgent(process.env.HTTPS_PROXY) } };
const v1 = `${endpoint}openai/v1/`;
const clients = {
  "AzureOpenAI with a token provider": new AzureOpenAI({ endpoint, azureADTokenProvider, apiVersion, ...own }),
  "AzureOpenAI with a key": new AzureOpenAI({ endpoint, apiKey, apiVersion, ...own }),
  "OpenAI on v1 with a token provider": new OpenAI({ baseURL: v1, apiKey: azureADTokenProvider, ...own }),
  "OpenAI on v1 with a key": new OpenAI({ baseURL: v1, apiKey, ...own }),
};
const messages = [{ role: "user", content: "ahoy" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];

for (const [name, client] of Object.entries(clients)) {
  test(name, async (t) => {
    await t.test("chat", async () => {
      const got = await client.chat.completions.create({ model: "chat", messages });
      assert.equal(got.choices[0].message.content, "You said: ahoy");
      assert.equal(got.usage.total_tokens, 12);
    });

    await t.test("a stream, and its usage where it is asked for", async () => {
      for (const include_usage of [undefined, true]) {
        let text = "", usage;
        const stream_options = include_usage ? { include_usage } : undefined;
        for await (const chunk of await client.chat.completions.create({ model: "chat", messages, stream: true, stream_options })) {
          text += chunk.choices[0]?.delta?.content ?? "";
          usage ??= chunk.usage;
        }
        assert.equal(text, "You said: ahoy");
        assert.equal(usage?.total_tokens, include_usage ? 12 : undefined);
      }
    });

    await t.test("tools, at once and in a stream", async () => {
      const got = await client.chat.completions.create({ model: "chat", messages, tools });
      assert.deepEqual(got.choices[0].message.tool_calls.map((c) => c.function.arguments), ['{"city":"Oslo"}', '{"city":"Bergen"}']);
      const streamed = await client.chat.completions.stream({ model: "chat", messages, tools }).finalChatCompletion();
      assert.equal(streamed.choices[0].finish_reason, "tool_calls");
      assert.deepEqual(streamed.choices[0].message.tool_calls.map((c) => c.function.arguments), ['{"city":"Oslo"}', '{"city":"Bergen"}']);
    });

    await t.test("structured output", async () => {
      const json_schema = { name: "product", strict: true, schema: { type: "object", properties: { name: { type: "string" }, price: { type: "number" } } } };
      const got = await client.chat.completions.parse({ model: "chat", messages, response_format: { type: "json_schema", json_schema } });
      assert.deepEqual(JSON.parse(got.choices[0].message.content), { name: "rope", price: 9.5 });
    });

    await t.test("embeddings, as base64 unless asked otherwise", async () => {
      for (const encoding_format of [undefined, "float"]) {
        const got = await client.embeddings.create({ model: "vectors", input: ["four", "sevenss"], encoding_format });
        assert.deepEqual(got.data.map((d) => [...d.embedding]), [[4, 0.5, -1], [7, 0.5, -1]]);
      }
    });

    await t.test("responses", async () => {
      const got = await client.responses.create({ model: "chat", input: "ahoy" });
      assert.equal(got.output_text, "You said: ahoy");
      let text = "";
      for await (const e of await client.responses.create({ model: "chat", input: "ahoy", stream: true })) {
        if (e.type === "response.output_text.delta") text += e.delta;
      }
      assert.equal(text, "You said: ahoy");
    });

    await t.test("models", async () => {
      const seen = [];
      for await (const m of client.models.list()) seen.push(m.id);
      assert.ok(seen.includes("parrot-1"), seen.join());
    });

    await t.test("cancel", async () => {
      const gone = async () => (await fetch(`${FAKE}/gone`)).json();
      const before = await gone();
      const stream = await client.chat.completions.create({ model: "chat", messages: [{ role: "user", content: "for ever" }], stream: true });
      let n = 0;
      for await (const _ of stream) if (++n === 3) break; // which aborts the request
      for (const end = Date.now() + 10_000; (await gone()) <= before; ) assert.ok(Date.now() < end, "the model still writes");
    });

    await t.test("a deployment that is not there", async () => {
      await assert.rejects(client.chat.completions.create({ model: "none", messages }), { name: "Error", status: 404, code: "DeploymentNotFound" });
    });
  });
}

test("refusals", async () => {
  const once = { ...own, maxRetries: 0 };
  const other = new AzureOpenAI({ endpoint, apiKey: OTHER_KEY, apiVersion, ...once });
  await assert.rejects(other.chat.completions.create({ model: "chat", messages }), (e) => e instanceof OpenAI.AuthenticationError && /Access denied/.test(e.message));
  const wrong = getBearerTokenProvider(new DefaultAzureCredential(), "https://vault.azure.net/.default");
  const audience = new AzureOpenAI({ endpoint, azureADTokenProvider: wrong, apiVersion, ...once });
  await assert.rejects(audience.chat.completions.create({ model: "chat", messages }), OpenAI.AuthenticationError);
  const tight = new AzureOpenAI({ endpoint, azureADTokenProvider, apiVersion, ...once });
  await assert.rejects(async () => {
    for (let n = 0; n < 20; n++) await tight.chat.completions.create({ model: "tight", messages });
  }, (e) => e instanceof OpenAI.RateLimitError && Number(e.headers.get("retry-after")) > 0);
  await clients["AzureOpenAI with a token provider"].chat.completions.create({ model: "tight", messages }, { maxRetries: 3 });
});
