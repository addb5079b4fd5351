// The A2A door as @a2a-js/sdk uses it, by JSON-RPC, HTTP+JSON and gRPC. BASE_URL is an agent with the files of examples/a2a-conformance, whose
// script has one rule more: long-stream says what tck-stream does, in two seconds.
import assert from 'node:assert/strict';
import { Role, TaskState } from '@a2a-js/sdk';
import { RequestMalformedError, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError } from '@a2a-js/sdk/errors';
import { bindings, config, connect, drain, kinds, listing, pushTo, receiver, say, textOf, until } from './a2a-kit.mjs';

const base = process.env.BASE_URL;
const stateOf = (task) => TaskState[task.status.state].replace('TASK_STATE_', '');
const spoken = 'Stream hello from TCK, in several pieces';

// begin starts a streamed task and gives it as it is at the beginning, with the stream that follows.
async function begin(client, message, options) {
  const events = client.sendMessageStream(message, options);
  const { value } = await events.next();
  assert.equal(value.payload.$case, 'task');
  return { task: value.payload.value, events };
}

async function send(client) {
  const done = await client.sendMessage(say('tck-complete-task'));
  assert.equal(stateOf(done), 'COMPLETED');
  assert.equal(done.artifacts[0].parts[0].content.value, 'Hello from TCK');
  assert.equal(done.history[0].messageId, 'tck-complete-task');
  for (const [id, state] of [['tck-fail', 'FAILED'], ['tck-reject-task', 'REJECTED']]) assert.equal(stateOf(await client.sendMessage(say(id))), state, id);
  const artifacts = [
    ['tck-artifact-text', 'text', 'Generated text content'], ['tck-artifact-file', 'raw', Buffer.from('tck')],
    ['tck-artifact-file-url', 'url', 'https://example.com/output.txt'], ['tck-artifact-data', 'data', { key: 'value', count: 42 }],
  ];
  for (const [id, kind, want] of artifacts) {
    const { content } = (await client.sendMessage(say(id))).artifacts[0].parts[0];
    assert.deepEqual([content.$case, kind === 'raw' ? Buffer.from(content.value) : content.value], [kind, want], id);
  }
  const lone = await client.sendMessage(say('tck-message-response'));
  assert.deepEqual([lone.role, lone.parts[0].content.value], [Role.ROLE_AGENT, 'Direct message response']);
  const next = await client.sendMessage(say('tck-complete-task', { contextId: done.contextId }));
  assert.equal(next.contextId, done.contextId);
  assert.notEqual(next.id, done.id, 'a message without a task makes a new one');
  assert.equal((await client.sendMessage(say('tck-complete-task', { configuration: config({ historyLength: 0 }) }))).history.length, 0);
  await assert.rejects(client.sendMessage(say('more', { taskId: done.id })), UnsupportedOperationError);
  await assert.rejects(client.sendMessage(say('')), RequestMalformedError);
}

async function sendAndPoll(_, binding) {
  const client = await connect(base, binding, { polling: true });
  const early = await client.sendMessage(say('tck-delayed'));
  assert.ok(['SUBMITTED', 'WORKING'].includes(stateOf(early)), stateOf(early));
  let now = early;
  for (const end = Date.now() + 10_000; stateOf(now) !== 'COMPLETED'; now = await client.getTask({ tenant: '', id: early.id, historyLength: undefined })) {
    assert.ok(Date.now() < end, stateOf(now));
    await new Promise((again) => { setTimeout(again, 50); });
  }
  assert.equal(now.artifacts[0].parts[0].content.value, 'Done after delay');
}

async function stream(client) {
  const streamed = await drain(client.sendMessageStream(say('tck-stream')));
  assert.equal(streamed[0].$case, 'task');
  assert.equal(TaskState[streamed.at(-1).value.status.state], 'TASK_STATE_COMPLETED');
  assert.ok(kinds(streamed).filter((k) => k === 'artifactUpdate').length > 1, `pieces: ${kinds(streamed)}`);
  assert.equal(textOf(streamed), spoken);
  const pieces = (await drain(client.sendMessageStream(say('tck-stream-artifact-chunked')))).filter((p) => p.$case === 'artifactUpdate').map((p) => p.value);
  assert.deepEqual(pieces.map((p) => [p.artifact.artifactId, p.append, p.lastChunk]), [['pieces', false, false], ['pieces', true, true]]);
  assert.deepEqual(kinds(await drain(client.sendMessageStream(say('tck-message-response')))), ['message']);
  const asked = await drain(client.sendMessageStream(say('tck-input-required')));
  assert.equal(TaskState[asked.at(-1).value.status.state], 'TASK_STATE_INPUT_REQUIRED', 'a stream ends where the task asks for something');
}

async function get(client) {
  const done = await client.sendMessage(say('tck-complete-task'));
  const got = await client.getTask({ tenant: '', id: done.id, historyLength: undefined });
  assert.deepEqual([got.id, got.contextId, stateOf(got), got.history.length, got.artifacts.length], [done.id, done.contextId, 'COMPLETED', done.history.length, 1]);
  assert.match(got.status.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  assert.equal((await client.getTask({ tenant: '', id: done.id, historyLength: 1 })).history.length, 1);
  assert.equal((await client.getTask({ tenant: '', id: done.id, historyLength: 0 })).history.length, 0);
  await assert.rejects(client.getTask({ tenant: '', id: 'nobodys', historyLength: 0 }), TaskNotFoundError);
  await assert.rejects(client.getTask({ tenant: 'other', id: done.id, historyLength: 0 }), TaskNotFoundError, 'of another tenant');
  const theirs = await client.sendMessage(say('tck-complete-task', { tenant: 'other' }));
  assert.equal((await client.getTask({ tenant: 'other', id: theirs.id, historyLength: 0 })).id, theirs.id);
}

async function list(client) {
  const first = await client.sendMessage(say('tck-complete-task'));
  const { contextId } = first;
  const second = await client.sendMessage(say('tck-fail', { contextId }));
  const third = await client.sendMessage(say('tck-complete-task', { contextId }));
  const all = await client.listTasks(listing({ contextId }));
  assert.deepEqual(all.tasks.map((t) => t.id), [third.id, second.id, first.id], 'the newest status first');
  assert.deepEqual([all.totalSize, all.pageSize, all.nextPageToken, all.tasks[0].artifacts.length], [3, 10, '', 0]);
  const page = await client.listTasks(listing({ contextId, pageSize: 2 }));
  const rest = await client.listTasks(listing({ contextId, pageSize: 2, pageToken: page.nextPageToken }));
  assert.deepEqual([...page.tasks, ...rest.tasks].map((t) => t.id), all.tasks.map((t) => t.id));
  assert.deepEqual([page.totalSize, rest.nextPageToken], [3, '']);
  const failed = await client.listTasks(listing({ contextId, status: TaskState.TASK_STATE_FAILED }));
  assert.deepEqual(failed.tasks.map((t) => t.id), [second.id]);
  const full = await client.listTasks(listing({ contextId, includeArtifacts: true, historyLength: 1 }));
  assert.deepEqual([full.tasks[0].artifacts.length, full.tasks[0].history.length], [1, 1]);
  const after = await client.listTasks(listing({ contextId, statusTimestampAfter: third.status.timestamp }));
  assert.ok(after.tasks.every((t) => t.status.timestamp >= third.status.timestamp), 'statusTimestampAfter');
  assert.equal((await client.listTasks(listing({ contextId, statusTimestampAfter: '2099-01-01T00:00:00Z' }))).totalSize, 0);
  assert.equal((await client.listTasks(listing({ contextId: 'nobodys' }))).totalSize, 0);
  await assert.rejects(client.listTasks(listing({ pageToken: 'made up' })), RequestMalformedError);
}

async function cancel(client) {
  const { task, events } = await begin(client, say('tck-slow'));
  const watched = client.resubscribeTask({ tenant: '', id: task.id });
  assert.equal((await watched.next()).value.payload.$case, 'task');
  const began = Date.now();
  const request = { tenant: '', id: task.id, metadata: undefined };
  assert.equal(stateOf(await client.cancelTask(request)), 'CANCELED');
  assert.ok(Date.now() - began < 3000, 'canceled at once');
  for (const told of [await drain(events), await drain(watched)]) assert.equal(TaskState[told.at(-1).value.status.state], 'TASK_STATE_CANCELED');
  assert.equal(stateOf(await client.cancelTask(request)), 'CANCELED', 'a second time');
  const waiting = await client.sendMessage(say('tck-input-required'));
  assert.equal(stateOf(await client.cancelTask({ ...request, id: waiting.id })), 'CANCELED', 'while it waits');
  const done = await client.sendMessage(say('tck-complete-task'));
  await assert.rejects(client.cancelTask({ ...request, id: done.id }), TaskNotCancelableError);
  await assert.rejects(client.cancelTask({ ...request, id: 'nobodys' }), TaskNotFoundError);
}

async function subscribe(client) {
  // The reader that began the task leaves; those that subscribe get all of it.
  const leave = new AbortController();
  const { task, events } = await begin(client, say('long-stream'), { signal: leave.signal });
  const request = { tenant: '', id: task.id };
  const readers = [1, 2, 3].map(() => drain(client.resubscribeTask(request)));
  leave.abort();
  await drain(events).catch(() => {});
  const told = await Promise.all(readers);
  for (const payloads of told) {
    assert.equal(payloads[0].$case, 'task');
    assert.equal(textOf(payloads), spoken);
    assert.equal(TaskState[payloads.at(-1).value.status.state], 'TASK_STATE_COMPLETED');
  }
  const shortest = Math.min(...told.map((t) => t.length - 1));
  for (const payloads of told) assert.deepEqual(payloads.slice(-shortest), told[0].slice(-shortest), 'one order for all');
  await assert.rejects(drain(client.resubscribeTask(request)), UnsupportedOperationError, 'nothing more happens to it');
  await assert.rejects(drain(client.resubscribeTask({ ...request, id: 'nobodys' })), TaskNotFoundError);
}

async function inputRequired(client) {
  const waiting = await client.sendMessage(say('tck-input-required'));
  assert.deepEqual([stateOf(waiting), waiting.status.message.parts[0].content.value], ['INPUT_REQUIRED', 'What else should I know?']);
  const events = client.resubscribeTask({ tenant: '', id: waiting.id });
  assert.equal((await events.next()).value.payload.$case, 'task');
  const again = await client.sendMessage(say('tck-input-required', { taskId: waiting.id }));
  assert.deepEqual([stateOf(again), again.status.message.parts[0].content.value], ['INPUT_REQUIRED', 'And what else?'], 'the same messageId is a new turn');
  await assert.rejects(client.sendMessage(say('tck-complete-task', { taskId: waiting.id, contextId: 'another' })), RequestMalformedError);
  const answered = await client.sendMessage(say('tck-complete-task', { taskId: waiting.id, contextId: waiting.contextId }));
  assert.deepEqual([stateOf(answered), answered.id], ['COMPLETED', waiting.id]);
  const states = (await drain(events)).filter((p) => p.$case === 'statusUpdate').map((p) => stateOf(p.value));
  assert.deepEqual(states, ['WORKING', 'INPUT_REQUIRED', 'WORKING', 'COMPLETED']);

  const locked = await client.sendMessage(say('tck-auth-required'));
  assert.equal(stateOf(locked), 'AUTH_REQUIRED');
  const told = await drain(client.sendMessageStream(say('tck-stream', { taskId: locked.id })));
  assert.equal(told[0].value.id, locked.id);
  assert.equal(TaskState[told.at(-1).value.status.state], 'TASK_STATE_COMPLETED', 'a stream goes on with it');
}

async function push(client) {
  const hook = await receiver();
  const authentication = { scheme: 'Bearer', credentials: 'cred' };
  const waiting = await client.sendMessage(say('tck-input-required'));
  const made = await client.createTaskPushNotificationConfig(pushTo(hook.url, { taskId: waiting.id, token: 'tok', authentication }));
  const request = { tenant: '', id: made.id, taskId: waiting.id };
  assert.ok(made.id);
  assert.equal((await client.getTaskPushNotificationConfig(request)).url, hook.url);
  const other = await client.createTaskPushNotificationConfig(pushTo(hook.url, { taskId: waiting.id, id: 'mine' }));
  assert.equal(other.id, 'mine');
  const have = await client.listTaskPushNotificationConfig({ tenant: '', taskId: waiting.id, pageSize: 0, pageToken: '' });
  assert.deepEqual(have.configs.map((c) => c.id).sort(), [made.id, 'mine'].sort());
  for (let i = 0; i < 2; i += 1) await client.deleteTaskPushNotificationConfig({ ...request, id: 'mine' });
  await assert.rejects(client.getTaskPushNotificationConfig({ ...request, id: 'mine' }), TaskNotFoundError);
  await client.sendMessage(say('tck-complete-task', { taskId: waiting.id }));
  const ended = (told) => told.some((n) => n.body.statusUpdate?.status.state === 'TASK_STATE_COMPLETED');
  await until('the notification of the end', () => ended(hook.told));
  assert.deepEqual(hook.told.map((n) => n.body.statusUpdate?.status.state ?? Object.keys(n.body)[0]), ['TASK_STATE_WORKING', 'artifactUpdate', 'TASK_STATE_COMPLETED']);
  for (const { headers, body } of hook.told) {
    assert.deepEqual([headers.authorization, headers['x-a2a-notification-token'], headers['content-type']], ['Bearer cred', 'tok', 'application/a2a+json']);
    assert.equal(Object.values(body)[0].taskId, waiting.id);
  }
  await assert.rejects(client.createTaskPushNotificationConfig(pushTo('file:///etc/passwd', { taskId: waiting.id })), RequestMalformedError);
  await assert.rejects(client.createTaskPushNotificationConfig(pushTo(hook.url, { taskId: 'nobodys' })), TaskNotFoundError);
  hook.close();

  // With the message itself; the address is away for a while.
  const shaky = await receiver(1);
  const inline = config({ taskPushNotificationConfig: pushTo(shaky.url, { id: 'inline', authentication }) });
  const done = await client.sendMessage(say('tck-complete-task', { configuration: inline }));
  await until('the notification after a refusal', () => ended(shaky.told));
  assert.equal(shaky.refused(), 1);
  assert.equal(shaky.told[0].headers.authorization, 'Bearer cred');
  assert.equal((await client.getTaskPushNotificationConfig({ tenant: '', id: 'inline', taskId: done.id })).url, shaky.url);
  shaky.close();
}

await Promise.all(bindings.map(async (binding) => {
  const client = await connect(base, binding);
  for (const scenario of [send, sendAndPoll, stream, get, list, cancel, subscribe, inputRequired, push]) {
    await scenario(client, binding);
    console.log(binding, scenario.name, 'ok');
  }
}));
