// A real OpenID provider for the tests of logging in: npm's oidc-provider with its own development pages. It prints one line of JSON,
// {"issuer"}, once it listens, and ends when its standard input does. Whoever logs in as NAME, with any password, is NAME.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const accounts = {
  ada: { email: 'ada@example.org', email_verified: true, groups: ['weather-team', 'everyone'] },
  bob: { email: 'bob@example.org', email_verified: true, groups: ['everyone'] },
  // Says an address that nobody verified.
  mallory: { email: 'ada@example.org', email_verified: false, groups: [] },
  // Gets ID tokens that end after a second.
  brief: { email: 'brief@example.org', email_verified: true, groups: [] },
};

const client = (id) => ({
  client_id: id,
  application_type: 'native', // a loopback redirect may have any port (RFC 8252)
  token_endpoint_auth_method: 'none',
  redirect_uris: ['http://127.0.0.1/callback'],
  response_types: ['code'],
  grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
});

const key = { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: randomUUID() };

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [client('agentctl'), client('another')],
    jwks: { keys: [key] },
    cookies: { keys: [randomUUID()] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    conformIdTokenClaims: false, // the ID token itself carries what its scopes give
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    pkce: { required: () => true },
    ttl: {
      AccessToken: 60, AuthorizationCode: 60, DeviceCode: 120, Grant: 600, Interaction: 600, Session: 600,
      IdToken: (ctx) => (ctx.oidc.account?.accountId === 'brief' ? 1 : 300),
    },
    findAccount: (_ctx, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
  });
  provider.on('server_error', (_ctx, err) => console.error(err));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
