// Scenarios of npm's openai against an agent's OpenAI-compatible door.
import assert from 'node:assert/strict';

const { default: OpenAI } = await import(process.env.CLIENT);
const client = new OpenAI({ apiKey: 'any', baseURL: process.env.BASE_URL, maxRetries: 0 });

const whole = await client.chat.completions.create({ model: 'helper', messages: [{ role: 'user', content: 'hi' }] });
assert.equal(whole.choices[0].message.content, 'hello');
