// What the scenarios of a2a.mjs and a2a-card.mjs share: clients by binding, messages, and an address that is told of changes.
import assert from 'node:assert/strict';
import http from 'node:http';
import { Role } from '@a2a-js/sdk';
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory, RestTransportFactory } from '@a2a-js/sdk/client';
import { GrpcTransportFactory } from '@a2a-js/sdk/client/grpc';

export const bindings = ['JSONRPC', 'HTTP+JSON', 'GRPC'];

// bearer shows a key with each call, as a header or as gRPC metadata.
const bearer = (key) => ({
  before: async (args) => {
    args.options = { ...args.options, serviceParameters: { ...args.options?.serviceParameters, Authorization: `Bearer ${key}` } };
  },
  after: async () => {},
});

// connect makes a client that speaks one binding, as the agent's card says where.
export async function connect(base, binding, { key, ...clientConfig } = {}) {
  const transports = [new JsonRpcTransportFactory(), new RestTransportFactory(), new GrpcTransportFactory()];
  const factory = new ClientFactory(ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
    transports, preferredTransports: [binding], clientConfig: { ...clientConfig, interceptors: key ? [bearer(key)] : [] },
  }));
  const client = await factory.createFromUrl(base);
  assert.equal(client.transport.protocolName, binding);
  return client;
}

export const say = (messageId, { text = 'hi', taskId = '', contextId = '', tenant = '', configuration } = {}) => ({
  tenant,
  message: {
    messageId, taskId, contextId, role: Role.ROLE_USER, extensions: [], referenceTaskIds: [], metadata: undefined,
    parts: [{ content: { $case: 'text', value: text }, metadata: undefined, filename: '', mediaType: '' }],
  },
  configuration, metadata: undefined,
});

export const config = (more) => ({ acceptedOutputModes: [], taskPushNotificationConfig: undefined, historyLength: undefined, returnImmediately: false, ...more });

export const listing = (more) => ({
  tenant: '', contextId: '', status: 0, pageSize: 10, pageToken: '', historyLength: undefined, statusTimestampAfter: undefined, includeArtifacts: false, ...more,
});

export const pushTo = (url, more) => ({ tenant: '', id: '', taskId: '', url, token: '', authentication: undefined, ...more });

// drain reads a stream to its end.
export async function drain(events) {
  const out = [];
  for await (const e of events) out.push(e.payload);
  return out;
}

export const kinds = (payloads) => payloads.map((p) => p.$case);

// textOf puts the answer together that a stream told, from the task as it was at its beginning.
export function textOf(payloads) {
  let out = '';
  for (const { $case, value } of payloads) {
    if ($case === 'task') out = value.artifacts.flatMap((a) => a.parts).map((p) => p.content.value).join('');
    if ($case === 'artifactUpdate') out = (value.append ? out : '') + value.artifact.parts.map((p) => p.content.value).join('');
  }
  return out;
}

export async function until(what, holds) {
  for (const end = Date.now() + 10_000; !holds();) {
    assert.ok(Date.now() < end, `in time: ${what}`);
    await new Promise((again) => { setTimeout(again, 10); });
  }
}

// receiver is an address for push notifications. It refuses the first ones, as many as fails says.
export async function receiver(fails = 0) {
  const told = [];
  let refused = 0;
  const server = http.createServer((q, w) => {
    let body = '';
    q.on('data', (d) => { body += d; });
    q.on('end', () => {
      if (refused < fails) {
        refused += 1;
        w.writeHead(503).end();
        return;
      }
      told.push({ headers: q.headers, body: JSON.parse(body) });
      w.end();
    });
  });
  await new Promise((ready) => { server.listen(0, '127.0.0.1', ready); });
  return { told, refused: () => refused, url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
