// An OpenAI-compatible server around llama.cpp: node server.mjs FILE.gguf
//
// The engine is llama.cpp's own library; this is the HTTP in front of it, for the shape of prompt that the
// model knows: the last message is "NAME | TAG | TAG". GET /stats tells how many calls were broken off; a field "pause" slows it down, in ms a token.
import http from 'node:http';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const END = 0, NAME = 1, TAG = 2, TEXT = 3;
const llama = await getLlama({ build: 'never', gpu: false, logLevel: LlamaLogLevel.error, maxThreads: 1, progressLogs: false });
const model = await llama.loadModel({ modelPath: process.argv[2], gpuLayers: 0 });
const context = await model.createContext({ contextSize: 512, sequences: 8, threads: 1 });
const stats = { calls: 0, aborted: 0, tokens: 0 };

function prompt(messages) {
  const [name, ...tags] = messages.at(-1).content.split('|').map((s) => s.trim());
  const ids = [NAME, ...model.tokenize(' ' + name, false)];
  for (const tag of tags) ids.push(TAG, ...model.tokenize(' ' + tag, false));
  return [...ids, TEXT];
}

// Tokens are decoded together: one can be a part of a letter.
async function* write(ids, options, gone) {
  const sequence = context.getSequence();
  const out = [];
  let said = '';
  try {
    for await (const id of sequence.evaluate(ids, { temperature: options.temperature ?? 1, seed: options.seed })) {
      if (id === END || gone.aborted) break;
      out.push(id);
      stats.tokens++;
      const text = model.detokenize(out).replace(/^ /, '');
      if (!text.endsWith('\uFFFD') && text.length > said.length) {
        yield { text: text.slice(said.length), tokens: out.length };
        said = text;
      }
      if (options.pause) await new Promise((done) => setTimeout(done, options.pause));
      if (out.length >= (options.max_tokens ?? 200)) break;
    }
  } finally {
    sequence.dispose();
  }
}

async function chat(req, res, body) {
  const gone = new AbortController();
  res.on('close', () => res.writableFinished || (stats.aborted++, gone.abort()));
  const ids = prompt(body.messages);
  const base = { id: 'chatcmpl-' + ++stats.calls, created: Math.floor(Date.now() / 1000), model: 'llama.cpp', system_fingerprint: 'llama.cpp' };
  const usage = (n) => ({ prompt_tokens: ids.length, completion_tokens: n, total_tokens: ids.length + n });
  let text = '', tokens = 0;
  const event = (choices, more) => res.write('data: ' + JSON.stringify({ ...base, object: 'chat.completion.chunk', choices, ...more }) + '\n\n');
  if (body.stream) res.writeHead(200, { 'Content-Type': 'text/event-stream' });
  for await (const piece of write(ids, body, gone.signal)) {
    text += piece.text;
    tokens = piece.tokens;
    if (body.stream) event([{ index: 0, delta: { content: piece.text }, finish_reason: null }]);
  }
  if (gone.signal.aborted) return;
  const finish_reason = tokens >= (body.max_tokens ?? 200) ? 'length' : 'stop';
  if (!body.stream) {
    res.writeHead(200, { 'Content-Type': 'application/json' });
    res.end(JSON.stringify({ ...base, object: 'chat.completion', choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason }], usage: usage(tokens) }));
    return;
  }
  event([{ index: 0, delta: {}, finish_reason }]);
  if (body.stream_options?.include_usage) event([], { usage: usage(tokens) });
  res.end('data: [DONE]\n\n');
}

const server = http.createServer((req, res) => {
  const json = (status, v) => { res.writeHead(status, { 'Content-Type': 'application/json' }); res.end(JSON.stringify(v)); };
  let body = '';
  req.on('data', (d) => { body += d; });
  req.on('end', () => {
    if (req.url === '/stats') json(200, stats);
    else if (req.url === '/v1/models') json(200, { object: 'list', data: [{ id: 'tiny', object: 'model', created: 0, owned_by: 'llama.cpp' }] });
    else if (req.method === 'POST' && req.url === '/v1/chat/completions') chat(req, res, JSON.parse(body)).catch((e) => res.destroy(e));
    else json(404, { error: { message: 'no such path', type: 'invalid_request_error', param: null, code: null } });
  });
});
server.listen(0, '127.0.0.1', () => console.log('http://127.0.0.1:' + server.address().port));
