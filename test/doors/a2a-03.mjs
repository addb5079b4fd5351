// The A2A door as a client of protocol 0.3 uses it: @a2a-js/sdk 0.3, by JSON-RPC, HTTP+JSON and gRPC. BASE_URL is an agent with the files of
// examples/a2a-conformance and expose.a2a.v03; KEY, if any, is a key that it wants to see, and then it signs its card. Today's client goes on beside it.
import assert from 'node:assert/strict';
import http from 'node:http';
import * as jose from 'jose';
import { AgentCard, TaskState, verifyAgentCardSignature } from '@a2a-js/sdk';
import { DefaultAgentCardResolver } from '@a2a-js/sdk/client';
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory, RestTransportFactory, A2AClient } from 'a2a-sdk-03/client';
import { GrpcTransportFactory } from 'a2a-sdk-03/client/grpc';
import { bindings, connect, say as sayToday } from './a2a-kit.mjs';

const base = process.env.BASE_URL;
const key = process.env.KEY;

// Notifications come to this server.
const told = [];
const hook = http.createServer((q, w) => {
  let body = '';
  q.on('data', (d) => { body += d; });
  q.on('end', () => { told.push({ headers: q.headers, task: JSON.parse(body) }); w.end(); });
});
await new Promise((ready) => { hook.listen(0, '127.0.0.1', ready); });
const address = `http://127.0.0.1:${hook.address().port}/`;

async function until(what, holds) {
  for (const end = Date.now() + 10_000; !holds();) {
    assert.ok(Date.now() < end, what);
    await new Promise((again) => { setTimeout(again, 10); });
  }
}

const shown = {
  before: async (args) => {
    if (key) args.options = { ...args.options, serviceParameters: { ...args.options?.serviceParameters, Authorization: `Bearer ${key}` } };
  },
  after: async () => {},
};

const say = (messageId, { taskId, contextId, parts = [{ kind: 'text', text: 'hi' }], configuration } = {}) => ({
  message: { kind: 'message', messageId, role: 'user', parts, ...(taskId && { taskId }), ...(contextId && { contextId }) },
  ...(configuration && { configuration }),
});

async function collect(events) {
  const out = [];
  for await (const e of events) out.push(e);
  return out;
}

// named wants an error of a class, by its name: the client's classes are not exported from one place in all versions.
const named = (promise, name) => assert.rejects(promise, (e) => {
  const names = [];
  for (let at = e; at; at = Object.getPrototypeOf(at)) names.push(at.constructor.name);
  assert.ok(names.includes(name), `${names}: ${e.message}`);
  return true;
});

// unsupported wants the refusal of what the agent doesn't do. The old client has no class for it in every binding.
const unsupported = (promise) => assert.rejects(promise, /unsupported|UNIMPLEMENTED|takes no further messages|12 /i);

async function scenario(binding) {
  const transports = [new JsonRpcTransportFactory(), new RestTransportFactory(), new GrpcTransportFactory()];
  const factory = new ClientFactory(ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
    transports, preferredTransports: [binding], clientConfig: { interceptors: [shown] },
  }));
  const client = await factory.createFromUrl(base);
  const json = binding === 'JSONRPC';

  const done = await client.sendMessage(say('tck-complete-task'));
  assert.deepEqual([done.kind, done.status.state], ['task', 'completed']);
  assert.deepEqual(done.artifacts[0].parts, [{ kind: 'text', text: 'Hello from TCK' }]);
  assert.match(done.status.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  assert.deepEqual([done.history[0].kind, done.history[0].role, done.history[0].parts[0].text], ['message', 'user', 'hi']);
  for (const [id, state] of [['tck-fail', 'failed'], ['tck-reject-task', 'rejected'], ['tck-auth-required', 'auth-required']]) {
    assert.equal((await client.sendMessage(say(id))).status.state, state, id);
  }
  const lone = await client.sendMessage(say('tck-message-response'));
  assert.deepEqual([lone.kind, lone.role, lone.parts[0].text], ['message', 'agent', 'Direct message response']);

  const part = async (id) => (await client.sendMessage(say(id))).artifacts[0].parts[0];
  assert.equal((await part('tck-artifact-text')).text, 'Generated text content');
  assert.equal((await part('tck-artifact-file')).file.bytes, 'dGNr');
  assert.equal((await part('tck-artifact-file-url')).file.uri, 'https://example.com/output.txt');
  assert.deepEqual((await part('tck-artifact-data')).data, { key: 'value', count: 42 });
  const files = await client.sendMessage(say('tck-complete-task', { parts: [
    { kind: 'text', text: 'read these' },
    { kind: 'file', file: { bytes: Buffer.from('a,b\n1,2\n').toString('base64'), mimeType: 'text/csv', name: 'table.csv' } },
    { kind: 'data', data: { order: 17 } },
  ] }));
  assert.equal(Buffer.from(files.history[0].parts[1].file.bytes, 'base64').toString(), 'a,b\n1,2\n');
  assert.deepEqual(files.history[0].parts[2].data, { order: 17 });

  const streamed = await collect(client.sendMessageStream(say('tck-stream')));
  assert.equal(streamed[0].kind, 'task');
  const pieces = streamed.filter((e) => e.kind === 'artifact-update');
  assert.ok(pieces.length > 1, `pieces: ${streamed.map((e) => e.kind)}`);
  assert.equal(pieces.map((e) => e.artifact.parts[0].text).join(''), 'Stream hello from TCK, in several pieces');
  assert.deepEqual([streamed.at(-1).kind, streamed.at(-1).status.state, streamed.at(-1).final], ['status-update', 'completed', true]);
  assert.deepEqual(streamed.slice(1, -1).filter((e) => e.final), []);
  assert.deepEqual((await collect(client.sendMessageStream(say('tck-message-response')))).map((e) => e.kind), ['message']);
  const asked = await collect(client.sendMessageStream(say('tck-input-required')));
  assert.deepEqual([asked.at(-1).status.state, asked.at(-1).final], ['input-required', true]);

  const got = await client.getTask({ id: done.id, historyLength: 1 });
  assert.deepEqual([got.id, got.contextId, got.history.length], [done.id, done.contextId, 1]);

  const waiting = await client.sendMessage(say('tck-input-required'));
  assert.equal(waiting.status.state, 'input-required');
  assert.match(waiting.status.message.parts[0].text, /What else/);
  const events = client.resubscribeTask({ id: waiting.id });
  assert.equal((await events.next()).value.kind, 'task');
  const name = binding === 'GRPC' ? { id: waiting.id } : {}; // by gRPC the client can't leave it out: it sends "undefined"
  const push = await client.setTaskPushNotificationConfig({
    taskId: waiting.id, pushNotificationConfig: { ...name, url: address, token: 'tok', authentication: { schemes: ['Bearer'], credentials: 'cred' } },
  });
  assert.deepEqual([push.taskId, push.pushNotificationConfig.id, push.pushNotificationConfig.url], [waiting.id, waiting.id, address]);
  const ids = { id: waiting.id, pushNotificationConfigId: waiting.id };
  assert.equal((await client.getTaskPushNotificationConfig(ids)).pushNotificationConfig.token, 'tok');
  if (json) assert.equal((await client.getTaskPushNotificationConfig({ id: waiting.id })).pushNotificationConfig.token, 'tok');
  assert.equal((await client.listTaskPushNotificationConfig({ id: waiting.id })).length, 1);
  const answered = await client.sendMessage(say('tck-complete-task', { taskId: waiting.id, contextId: waiting.contextId }));
  assert.deepEqual([answered.id, answered.status.state], [waiting.id, 'completed']);
  const seen = await collect(events);
  assert.deepEqual([seen.at(-1).kind, seen.at(-1).status.state, seen.at(-1).final], ['status-update', 'completed', true]);
  await until('the notification of the end', () => told.some((n) => n.task.id === waiting.id && n.task.status.state === 'completed'));
  for (const n of told) {
    assert.deepEqual([n.task.kind, n.headers.authorization, n.headers['x-a2a-notification-token'], n.headers['content-type']], ['task', 'Bearer cred', 'tok', 'application/json']);
  }
  assert.equal(told.findLast((n) => n.task.id === waiting.id).task.artifacts[0].parts[0].text, 'Hello from TCK');
  await client.deleteTaskPushNotificationConfig(ids);
  assert.equal((await client.listTaskPushNotificationConfig({ id: waiting.id })).length, 0);
  const told0 = told.length;
  await client.sendMessage(say('tck-complete-task', { configuration: {
    pushNotificationConfig: { url: address, token: 'tok', authentication: { schemes: ['Bearer'], credentials: 'cred' } },
  } }));
  await until('a notification of a config that came with the message', () => told.slice(told0).some((n) => n.task.status.state === 'completed'));

  const slow = await client.sendMessage(say('tck-slow', { configuration: { blocking: false } }));
  assert.ok(['submitted', 'working'].includes(slow.status.state), slow.status.state);
  const watched = client.resubscribeTask({ id: slow.id });
  assert.equal((await watched.next()).value.kind, 'task');
  const began = Date.now();
  assert.equal((await client.cancelTask({ id: slow.id })).status.state, 'canceled');
  assert.ok(Date.now() - began < 3000, 'canceled at once');
  assert.deepEqual((await collect(watched)).map((e) => [e.status.state, e.final]), [['canceled', true]]);

  await named(client.getTask({ id: 'nobodys' }), 'TaskNotFoundError');
  await named(client.cancelTask({ id: done.id }), 'TaskNotCancelableError');
  await unsupported(client.sendMessage(say('more', { taskId: done.id })));
  await assert.rejects(collect(client.resubscribeTask({ id: 'nobodys' })));
  await assert.rejects(client.sendMessage({ message: { kind: 'message', messageId: 'empty', role: 'user', parts: [] } }), /parts/);

  const card = await client.getAgentCard();
  assert.deepEqual([card.name, card.protocolVersion, card.preferredTransport], ['a2a-conformance', '0.3.0', 'JSONRPC']);
  assert.deepEqual(card.additionalInterfaces.map((i) => i.transport), ['JSONRPC', 'HTTP+JSON', 'GRPC']);
  assert.equal(card.supportsAuthenticatedExtendedCard, Boolean(key));
  if (key) {
    assert.ok(card.skills.length >= 1);
    assert.deepEqual([card.securitySchemes.bearer.type, card.securitySchemes.apiKey.in, card.security.length], ['http', 'header', 2]);
  } else {
    client.agentCard = { ...card, supportsAuthenticatedExtendedCard: true };
    await named(client.getAgentCard(), 'AuthenticatedExtendedCardNotConfiguredError');
  }
  console.log(binding, 'ok');
}

for (const binding of bindings) await scenario(binding);

// The first client of 0.3, which speaks JSON-RPC only and gives errors as answers.
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const first = await A2AClient.fromCardUrl(`${base}/.well-known/agent-card.json`, { fetchImpl: (url, init) => fetch(url, { ...init, headers: { ...init?.headers, ...headers } }) });
assert.equal((await first.sendMessage(say('tck-complete-task'))).result.status.state, 'completed');
assert.equal((await first.getTask({ id: 'nobodys' })).error.code, -32001);
assert.deepEqual((await collect(first.sendMessageStream(say('tck-complete-task')))).at(-1).final, true);
console.log('A2AClient ok');

// Today's client reads the same card and speaks 1.0.
const card = await new DefaultAgentCardResolver().resolve(base);
assert.deepEqual(card.supportedInterfaces.map((i) => `${i.protocolBinding} ${i.protocolVersion}`), [
  'JSONRPC 1.0', 'HTTP+JSON 1.0', 'GRPC 1.0', 'JSONRPC 0.3', 'HTTP+JSON 0.3', 'GRPC 0.3',
]);
if (key) {
  await verifyAgentCardSignature(async (kid, jku) => jose.importJWK((await (await fetch(jku)).json()).keys.find((k) => k.kid === kid), 'ES256'))(AgentCard.toJSON(card));
}
for (const binding of bindings) {
  const client = await connect(base, binding, { key });
  assert.equal((await client.sendMessage(sayToday('tck-complete-task'))).status.state, TaskState.TASK_STATE_COMPLETED);
}
console.log('today ok');
hook.close();
