// A stream that says nothing for longer than a proxy waits, as npm's openai reads it. BASE_URL is the door, CLIENTS are the clients' packages. The model answers
// after 17 seconds, or not at all where it is asked to break.
import assert from 'node:assert/strict';

const baseURL = process.env.BASE_URL;

async function comments() {
  const resp = await fetch(`${baseURL}/chat/completions`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ model: 'x', stream: true, messages: [{ role: 'user', content: 'think' }] }),
  });
  const body = await resp.text();
  assert.match(body, /^: keep-alive$/m);
  assert.match(body, /^data: \[DONE\]$/m);
}

async function read(name) {
  const { default: OpenAI } = await import(name);
  const client = new OpenAI({ baseURL, apiKey: 'k', maxRetries: 0 });
  const ask = (content) => client.chat.completions.create({ model: 'x', stream: true, messages: [{ role: 'user', content }] });
  const whole = async () => {
    let text = '';
    for await (const chunk of await ask('think')) text += chunk.choices[0]?.delta?.content ?? '';
    assert.equal(text, 'thought about it');
  };
  const broken = assert.rejects(async () => { for await (const chunk of await ask('break')) assert.ok(chunk); }, OpenAI.APIError);
  await Promise.all([whole(), broken]);
  console.log(name, 'ok');
}

await Promise.all([comments(), ...process.env.CLIENTS.split(',').map(read)]);
