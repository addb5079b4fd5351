// The card of an agent that signs it and asks for a key, and what the door refuses there, as @a2a-js/sdk sees it by each binding. SIGNED_URL is the agent, KEY and
// OTHER_KEY are two callers' keys.
import assert from 'node:assert/strict';
import * as jose from 'jose';
import { AgentCard, TaskState, verifyAgentCardSignature } from '@a2a-js/sdk';
import { DefaultAgentCardResolver } from '@a2a-js/sdk/client';
import { RequestMalformedError, TaskNotFoundError } from '@a2a-js/sdk/errors';
import { bindings, config, connect, listing, pushTo, say } from './a2a-kit.mjs';

const base = process.env.SIGNED_URL;

// The key's address comes with the signature. It is asked only where it is at the agent's own origin.
const asked = [];
const verifier = verifyAgentCardSignature(async (kid, jku) => {
  assert.equal(new URL(jku).origin, new URL(base).origin);
  asked.push(kid);
  const { keys } = await (await fetch(jku)).json();
  return jose.importJWK(keys.find((k) => k.kid === kid), 'ES256');
});

// A card goes to the verifier as JSON: of one that was read, 1.3.0 forgets securitySchemes (a2aproject/a2a-js, issue 663).
const verify = (card) => verifier(AgentCard.toJSON(card));

async function publicCard() {
  const card = await new DefaultAgentCardResolver().resolve(base);
  assert.equal(card.name, 'a2a-conformance');
  assert.equal(card.skills[0].id, 'conformance');
  assert.deepEqual(card.supportedInterfaces.map((i) => [i.protocolBinding, i.protocolVersion, i.url]), [
    ['JSONRPC', '1.0', `${base}/a2a`], ['HTTP+JSON', '1.0', `${base}/a2a/v1`], ['GRPC', '1.0', new URL(base).host],
  ]);
  assert.deepEqual([card.capabilities.streaming, card.capabilities.pushNotifications, card.capabilities.extendedAgentCard], [true, true, true]);
  assert.deepEqual(Object.keys(card.securitySchemes).sort(), ['apiKey', 'bearer']);
  assert.equal(card.securityRequirements.length, 2);
  await verify(card);
  assert.ok(asked.length > 0);
  await assert.rejects(verify({ ...card, name: 'another' }), /No valid signatures/, 'a card that was changed');
  await assert.rejects(verify({ ...card, signatures: [] }), /No signatures/);

  const whole = await fetch(`${base}/.well-known/agent-card.json`);
  assert.match(whole.headers.get('cache-control'), /max-age=\d+/);
  const same = await fetch(`${base}/.well-known/agent-card.json`, { headers: { 'If-None-Match': whole.headers.get('etag') } });
  assert.equal(same.status, 304);
}

async function extendedCard(client) {
  const before = asked.length;
  const card = await client.getAgentCard(undefined, verify);
  assert.ok(asked.length > before, 'its signature is verified, too');
  assert.ok(card.signatures.length > 0);
  assert.ok(card.skills.some((s) => s.id.startsWith('tool:')), 'the extended card names the tools');
}

async function keys(client, binding) {
  const done = await client.sendMessage(say('tck-complete-task'));
  assert.equal(done.status.state, TaskState.TASK_STATE_COMPLETED);
  const stranger = await connect(base, binding);
  await assert.rejects(stranger.sendMessage(say('tck-complete-task')), /key|401|UNAUTHENTICATED|16/i);
  const other = await connect(base, binding, { key: process.env.OTHER_KEY });
  await assert.rejects(other.getTask({ tenant: '', id: done.id, historyLength: 0 }), TaskNotFoundError);
  await assert.rejects(other.cancelTask({ tenant: '', id: done.id, metadata: undefined }), TaskNotFoundError);
  await assert.rejects(other.sendMessage(say('more', { taskId: done.id })), TaskNotFoundError);
  assert.equal((await other.listTasks(listing({ contextId: done.contextId }))).totalSize, 0);
}

// This agent runs without --allow-internal-push.
async function internalPush(client) {
  const waiting = await client.sendMessage(say('tck-input-required'));
  for (const url of ['http://127.0.0.1:1/', 'http://localhost/', 'http://[::1]/', 'http://169.254.169.254/', 'http://2130706433/']) {
    await assert.rejects(client.createTaskPushNotificationConfig(pushTo(url, { taskId: waiting.id })), RequestMalformedError, url);
    await assert.rejects(client.sendMessage(say('tck-complete-task', { configuration: config({ taskPushNotificationConfig: pushTo(url) }) })), RequestMalformedError, url);
  }
}

console.debug = () => {}; // the verifier prints what it refuses
await publicCard();
console.log('card and signature ok');
for (const binding of bindings) {
  const client = await connect(base, binding, { key: process.env.KEY });
  for (const scenario of [extendedCard, keys, internalPush]) {
    await scenario(client, binding);
    console.log(binding, scenario.name, 'ok');
  }
}
