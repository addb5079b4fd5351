// Scenarios of npm's openai against an agent's OpenAI-compatible door. CLIENT is the package, BASE_URL the door, LOCKED_URL that of an agent
// that asks for the key in KEY, MODEL_URL the scripted model server, which says what it was really asked.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';

const { CLIENT, BASE_URL, LOCKED_URL, KEY, MODEL_URL } = process.env;
const openai = await import(CLIENT);
const OpenAI = openai.default;
const client = new OpenAI({ apiKey: 'any', baseURL: BASE_URL, maxRetries: 0 });

// Every scenario marks its questions, so that what the model saw of them is found among the others'.
let marks = 0;
const mark = () => `${CLIENT}-${process.pid}-${++marks}`;
const user = (content) => [{ role: 'user', content }];

// seen gives the model's requests that hold the mark, once `enough` says so.
async function seen(m, enough = (all) => all.length > 0) {
  for (let tries = 0; ; tries++) {
    const all = (await (await fetch(`${MODEL_URL}/_seen`)).json()).filter((s) => JSON.stringify(s.body).includes(m));
    if (enough(all)) return all;
    assert.ok(tries < 500, `the model saw ${JSON.stringify(all)}`);
    await wait(20);
  }
}

test('models', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.deepEqual(ids, ['helper']);
  assert.equal((await client.models.retrieve('helper')).object, 'model');
  await assert.rejects(client.models.retrieve('gpt-4o'), (e) => e instanceof openai.NotFoundError && e.code === 'model_not_found' && e.param === 'model');
});

test('chat', async () => {
  const m = mark();
  const { data, response } = await client.chat.completions
    .create({ model: 'whatever', messages: user(`hi ${m}`), temperature: 1.7, seed: 4, max_completion_tokens: 3, user: 'u', n: 1, stop: ['END'] })
    .withResponse();
  assert.equal(data.object, 'chat.completion');
  assert.equal(data.model, 'helper');
  assert.equal(data.choices.length, 1);
  assert.equal(data.choices[0].message.role, 'assistant');
  assert.equal(data.choices[0].message.content, 'hello');
  assert.equal(data.choices[0].message.refusal, null);
  assert.equal(data.choices[0].finish_reason, 'stop');
  assert.ok(data.usage.prompt_tokens > 0 && data.usage.completion_tokens > 0 && data.usage.total_tokens === data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.match(response.headers.get('x-agentry-config'), /^\d+-[0-9a-f]{8}$/);
  assert.match(response.headers.get('x-agentry-revision'), /^\d+$/);
  const [sent] = await seen(m);
  // The agent's parameters are its spec's; the caller's stop sequences count beside them.
  assert.deepEqual([sent.model, sent.temperature, sent.maxTokens], ['scripted', 0.2, null]);
  assert.deepEqual(sent.body.stop, ['END']);
  assert.equal(sent.body.user, undefined);
});

test('stream', async () => {
  const stream = await client.chat.completions.create({ model: 'helper', messages: user(`slow ${mark()}`), stream: true, stream_options: { include_usage: true } });
  let text = '', finish = [], usage, pieces = 0, first;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    if (chunk.usage) usage = chunk.usage;
    for (const c of chunk.choices) {
      if (c.delta.content) { pieces++; first ??= Date.now(); }
      text += c.delta.content ?? '';
      if (c.finish_reason) finish.push(c.finish_reason);
    }
  }
  assert.equal(text, 'one two three four five six seven eight nine ten');
  assert.deepEqual(finish, ['stop']);
  assert.ok(pieces >= 5, `${pieces} pieces`);
  assert.ok(Date.now() - first >= 100, 'the first piece came with the last');
  assert.ok(usage.total_tokens > 0);
});

test('stream by the helper', async () => {
  const runner = client.chat.completions.stream({ model: 'helper', messages: user(`slow ${mark()}`) });
  let events = 0;
  runner.on('content', () => events++);
  assert.equal(await runner.finalContent(), 'one two three four five six seven eight nine ten');
  assert.equal((await runner.finalChatCompletion()).choices[0].finish_reason, 'stop');
  assert.ok(events >= 5);
});

// The model's own call ends when the caller leaves: in the middle of a stream, and before anything came.
test('abort', async () => {
  const took = [];
  for (let i = 0; i < 6; i++) {
    const m = mark();
    let left;
    if (i % 2 === 0) {
      const stream = await client.chat.completions.create({ model: 'helper', messages: user(`endless ${m}`), stream: true });
      for await (const chunk of stream) {
        if (!chunk.choices[0]?.delta.content) continue;
        left = Date.now();
        stream.controller.abort();
      }
    } else {
      const abort = new AbortController();
      const asked = client.chat.completions.create({ model: 'helper', messages: user(`hang ${m}`) }, { signal: abort.signal });
      asked.catch(() => {});
      await seen(m);
      left = Date.now();
      abort.abort();
      await assert.rejects(asked, openai.APIUserAbortError);
    }
    const [call] = await seen(m, (all) => all.length === 1 && all[0].ended);
    assert.equal(call.aborted, true);
    took.push(Math.max(0, new Date(call.ended) - left));
  }
  took.sort((a, b) => a - b);
  console.log(`# ${CLIENT}: upstream calls ended ${took.join(', ')} ms after the abort`);
  // The machine may be busy with other tests for a moment, so one of six may take longer.
  assert.ok(took[4] <= 100, `upstream calls ended ${took.join(', ')} ms after the abort`);
});

test('errors of the request', async () => {
  const cases = [
    [{ tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }] }, 'tools'],
    [{ functions: [{ name: 'f', parameters: { type: 'object' } }] }, 'functions'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ n: 2 }, 'n'],
    [{ logprobs: true }, 'logprobs'],
    [{ messages: [] }, 'messages'],
    [{ messages: [{ role: 'tool', tool_call_id: 'x', content: 'y' }] }, 'messages[0].role'],
    [{ response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
  ];
  for (const [fields, param] of cases) {
    await assert.rejects(client.chat.completions.create({ model: 'helper', messages: user('hi'), ...fields }),
      (e) => e instanceof openai.BadRequestError && e.status === 400 && e.type === 'invalid_request_error' && e.code === 'invalid_request' && e.param === param && e.message.length > 10,
      param);
  }
  // What clients send that have no tools.
  await client.chat.completions.create({ model: 'helper', messages: user('hi'), tools: [], tool_choice: 'auto' });
  await assert.rejects(client.embeddings.create({ model: 'helper', input: 'x' }), openai.NotFoundError);
  await assert.rejects(client.chat.completions.create({ model: 'helper', messages: user('x'.repeat(5 << 20)) }), (e) => e.status === 413 && e.type === 'invalid_request_error');
});

// A model that fails is a 502 that names the tries, and is not asked again by the SDK: the agent had its retries.
test('errors of the model', async () => {
  const patient = new OpenAI({ apiKey: 'any', baseURL: BASE_URL, maxRetries: 2 });
  for (const stream of [false, true]) {
    const m = mark();
    await assert.rejects(patient.chat.completions.create({ model: 'helper', messages: user(`fail ${m}`), stream }),
      (e) => e instanceof openai.InternalServerError && e.status === 502 && e.code === 'http_5xx' && e.error.attempts.length === 1 && e.error.attempts[0].status === 500);
    assert.equal((await seen(m)).length, 1);
  }
  const m = mark();
  await assert.rejects(client.chat.completions.create({ model: 'helper', messages: user(`busy ${m}`) }), (e) => e instanceof openai.RateLimitError && e.code === 'rate_limited' && e.headers.get('retry-after') === '1');
  await assert.rejects(async () => {
    for await (const chunk of await client.chat.completions.create({ model: 'helper', messages: user(`cut ${m}`), stream: true })) assert.ok(chunk.choices);
  }, (e) => e instanceof openai.APIError && e.code !== undefined);
});

test('images', async () => {
  const m = mark();
  const data = 'data:image/png;base64,iVBORw0KGgo=';
  await client.chat.completions.create({
    model: 'helper',
    messages: user([
      { type: 'text', text: `what is this? ${m}` },
      { type: 'image_url', image_url: { url: 'https://example.com/a.png', detail: 'low' } },
      { type: 'image_url', image_url: { url: data } },
    ]),
  });
  const [call] = await seen(m);
  assert.deepEqual(call.messages.at(-1).images, [{ url: 'https://example.com/a.png', detail: 'low' }, { url: data }]);
  await assert.rejects(client.chat.completions.create({ model: 'helper', messages: user([{ type: 'image_url', image_url: { url: 'file:///etc/passwd' } }]) }), openai.BadRequestError);
});

test('response_format', async () => {
  const m = mark();
  const schema = { type: 'object', properties: { city: { type: 'string' }, degrees: { type: 'number' } }, required: ['city', 'degrees'], additionalProperties: false };
  const parsed = await client.chat.completions.parse({
    model: 'helper', messages: user(`weather ${m}`), response_format: { type: 'json_schema', json_schema: { name: 'weather', strict: true, schema } },
  });
  assert.deepEqual(JSON.parse(parsed.choices[0].message.content), { city: 'Berlin', degrees: 7 });
  const [call] = await seen(m);
  assert.deepEqual(call.format, { type: 'json_schema', json_schema: { name: 'weather', strict: true, schema } });
  const object = mark();
  await client.chat.completions.create({ model: 'helper', messages: user(`weather ${object}`), response_format: { type: 'json_object' } });
  assert.deepEqual((await seen(object))[0].format, { type: 'json_object' });
});

test('sessions', async () => {
  const id = mark();
  const ask = (text, options = {}, fields = {}) => client.chat.completions.create({ model: 'helper', messages: user(`recall ${text}`), ...fields }, options);
  const turn = (answer) => answer.choices[0].message.content;
  const inSession = { headers: { 'X-Session-Id': id } };
  assert.equal(turn(await ask('one', inSession)), 'turn 1');
  assert.equal(turn(await ask('two', inSession)), 'turn 2');
  assert.equal(turn(await ask('three', {}, { metadata: { session_id: id } })), 'turn 3');
  // Who sends the whole conversation along is not told it twice.
  const whole = [...user('recall one'), { role: 'assistant', content: 'turn 1' }, ...user('recall four')];
  assert.equal(turn(await ask('', inSession, { messages: whole })), 'turn 4');
  // Another caller has another session of the same name, and without a name there is none.
  const other = new OpenAI({ apiKey: 'another', baseURL: BASE_URL, maxRetries: 0 });
  assert.equal(turn(await other.chat.completions.create({ model: 'helper', messages: user('recall') }, inSession)), 'turn 1');
  assert.equal(turn(await ask('five', {}, { user: id })), 'turn 1');
});

test('keys', async () => {
  const at = (apiKey) => new OpenAI({ apiKey, baseURL: LOCKED_URL, maxRetries: 0 });
  const m = mark();
  assert.equal((await at(KEY).chat.completions.create({ model: 'locked', messages: user(`hi ${m}`) })).choices[0].message.content, 'hello');
  // Neither the key nor the header it came in goes on to the model.
  for (const call of await seen(m)) assert.ok(!JSON.stringify(call).includes(KEY));
  await assert.rejects(at('wrong').chat.completions.create({ model: 'locked', messages: user('hi') }), (e) => e instanceof openai.AuthenticationError && e.status === 401 && e.code === 'invalid_api_key');
  await assert.rejects(at('wrong').models.list(), openai.AuthenticationError);
  const header = await fetch(`${LOCKED_URL}/models`, { headers: { 'X-API-Key': KEY } });
  assert.equal(header.status, 200);
  assert.equal((await fetch(`${LOCKED_URL}/models`)).status, 401);
});

// A tool call that needs consent ends the answer: in words, in a header, and in a field.
test('waiting for approval', async () => {
  const m = mark();
  const { data, response } = await client.chat.completions.create({ model: 'helper', messages: user(`refund ${m}`) }).withResponse();
  const waiting = data.agentry.pending;
  assert.equal(response.headers.get('x-agentry-pending'), waiting.id);
  assert.equal(waiting.calls[0].tool, 'desk/refund');
  assert.match(data.choices[0].message.content, new RegExp(`waits for approval[^]*desk/refund[^]*${waiting.id}`));
  assert.equal(data.choices[0].finish_reason, 'stop');
  const runner = client.chat.completions.stream({ model: 'helper', messages: user(`refund ${m}`) });
  assert.match(await runner.finalContent(), /waits for approval/);
});
