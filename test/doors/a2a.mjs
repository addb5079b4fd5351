// The A2A door as @a2a-js/sdk uses it, by JSON-RPC, HTTP+JSON and gRPC. BASE_URL is an agent with the files of examples/a2a-conformance.
import assert from 'node:assert/strict';
import http from 'node:http';
import { Role, TaskState } from '@a2a-js/sdk';
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory, RestTransportFactory } from '@a2a-js/sdk/client';
import { GrpcTransportFactory } from '@a2a-js/sdk/client/grpc';
import { TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError } from '@a2a-js/sdk/errors';

const base = process.env.BASE_URL;

const say = (messageId, { text = 'hi', taskId = '', contextId = '', configuration } = {}) => ({
  tenant: '',
  message: {
    messageId, taskId, contextId, role: Role.ROLE_USER, extensions: [], referenceTaskIds: [], metadata: undefined,
    parts: [{ content: { $case: 'text', value: text }, metadata: undefined, filename: '', mediaType: '' }],
  },
  configuration, metadata: undefined,
});
const config = (more) => ({ acceptedOutputModes: [], taskPushNotificationConfig: undefined, historyLength: undefined, returnImmediately: false, ...more });

async function collect(events) {
  const out = [];
  for await (const e of events) out.push(e.payload.$case);
  return out;
}

// Notifications come to this server.
const told = [];
const hook = http.createServer((q, w) => {
  let body = '';
  q.on('data', (d) => { body += d; });
  q.on('end', () => { told.push({ headers: q.headers, body: JSON.parse(body) }); w.end(); });
});
await new Promise((ready) => { hook.listen(0, '127.0.0.1', ready); });

async function until(what, holds) {
  for (const end = Date.now() + 10_000; !holds();) {
    assert.ok(Date.now() < end, what);
    await new Promise((again) => { setTimeout(again, 10); });
  }
}

async function scenario(binding) {
  const transports = [new JsonRpcTransportFactory(), new RestTransportFactory(), new GrpcTransportFactory()];
  const factory = new ClientFactory(ClientFactoryOptions.createFrom(ClientFactoryOptions.default, { transports, preferredTransports: [binding] }));
  const client = await factory.createFromUrl(base);

  const done = await client.sendMessage(say('tck-complete-task'));
  assert.equal(done.status.state, TaskState.TASK_STATE_COMPLETED);
  assert.equal(done.artifacts[0].parts[0].content.value, 'Hello from TCK');
  for (const [id, state] of [['tck-fail', 'TASK_STATE_FAILED'], ['tck-reject-task', 'TASK_STATE_REJECTED'], ['tck-auth-required', 'TASK_STATE_AUTH_REQUIRED']]) {
    assert.equal((await client.sendMessage(say(id))).status.state, TaskState[state], id);
  }
  for (const [id, kind] of [['tck-artifact-text', 'text'], ['tck-artifact-file', 'raw'], ['tck-artifact-file-url', 'url'], ['tck-artifact-data', 'data']]) {
    assert.equal((await client.sendMessage(say(id))).artifacts[0].parts[0].content.$case, kind, id);
  }

  const streamed = await collect(client.sendMessageStream(say('tck-stream')));
  assert.equal(streamed[0], 'task');
  assert.equal(streamed.at(-1), 'statusUpdate');
  assert.ok(streamed.filter((s) => s === 'artifactUpdate').length > 1, `pieces: ${streamed}`);
  assert.deepEqual(await collect(client.sendMessageStream(say('tck-message-response'))), ['message']);
  assert.equal((await client.sendMessage(say('tck-message-response'))).role, Role.ROLE_AGENT);

  const got = await client.getTask({ tenant: '', id: done.id, historyLength: 1 });
  assert.equal(got.history.length, 1);
  const list = await client.listTasks({
    tenant: '', contextId: done.contextId, status: 0, pageSize: 10, pageToken: '', historyLength: 0, statusTimestampAfter: undefined, includeArtifacts: false,
  });
  assert.deepEqual([list.totalSize, list.tasks.length, list.nextPageToken, list.tasks[0].artifacts.length], [1, 1, '', 0]);

  const waiting = await client.sendMessage(say('tck-input-required'));
  assert.equal(waiting.status.state, TaskState.TASK_STATE_INPUT_REQUIRED);
  const events = client.resubscribeTask({ tenant: '', id: waiting.id });
  assert.equal((await events.next()).value.payload.$case, 'task');
  const { port } = hook.address();
  const push = await client.createTaskPushNotificationConfig({
    tenant: '', id: '', taskId: waiting.id, url: `http://127.0.0.1:${port}/`, token: 'tok', authentication: { scheme: 'Bearer', credentials: 'cred' },
  });
  assert.equal((await client.getTaskPushNotificationConfig({ tenant: '', id: push.id, taskId: waiting.id })).url, push.url);
  assert.equal((await client.listTaskPushNotificationConfig({ tenant: '', taskId: waiting.id, pageSize: 0, pageToken: '' })).configs.length, 1);
  const again = await client.sendMessage(say('tck-input-required', { taskId: waiting.id }));
  assert.equal(again.status.state, TaskState.TASK_STATE_INPUT_REQUIRED, 'the same messageId is a new turn');
  const answered = await client.sendMessage(say('tck-complete-task', { taskId: waiting.id, contextId: waiting.contextId }));
  assert.equal(answered.status.state, TaskState.TASK_STATE_COMPLETED);
  assert.equal((await collect(events)).at(-1), 'statusUpdate');
  await until('the notification of the end', () => told.some((n) => n.body.statusUpdate?.taskId === waiting.id && n.body.statusUpdate.status.state === 'TASK_STATE_COMPLETED'));
  for (const n of told) assert.deepEqual([n.headers.authorization, n.headers['x-a2a-notification-token'], n.headers['content-type']], ['Bearer cred', 'tok', 'application/a2a+json']);
  await client.deleteTaskPushNotificationConfig({ tenant: '', id: push.id, taskId: waiting.id });
  await client.deleteTaskPushNotificationConfig({ tenant: '', id: push.id, taskId: waiting.id });

  const slow = await client.sendMessage(say('tck-slow', { configuration: config({ returnImmediately: true }) }));
  const began = Date.now();
  assert.equal((await client.cancelTask({ tenant: '', id: slow.id, metadata: undefined })).status.state, TaskState.TASK_STATE_CANCELED);
  assert.ok(Date.now() - began < 3000, 'canceled at once');

  await assert.rejects(client.getTask({ tenant: '', id: 'nobodys', historyLength: 0 }), TaskNotFoundError);
  await assert.rejects(collect(client.resubscribeTask({ tenant: '', id: 'nobodys' })), TaskNotFoundError);
  await assert.rejects(client.cancelTask({ tenant: '', id: done.id, metadata: undefined }), TaskNotCancelableError);
  await assert.rejects(client.sendMessage(say('more', { taskId: done.id })), UnsupportedOperationError);
  console.log(binding, 'ok');
}

for (const binding of ['JSONRPC', 'HTTP+JSON', 'GRPC']) await scenario(binding);
hook.close();
