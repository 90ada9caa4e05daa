// A page reads in a real browser why it cannot connect: whatever is wrong with its address or its origin, the browser
// reports a close code and a reason, never 1006. Runs like page.test.mjs.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Server, openBrowser } from './support.mjs';

let browser;
let server;
let strict;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
  strict = await Server.start(['--allow-origin', 'https://elsewhere.example']);
});

after(async () => {
  await browser?.close();
  await Promise.all([server?.kill(), strict?.kill()]);
});

/** Opens a WebSocket in a page of `server`, and returns its first frame's sender or its close. */
async function connect(address, subprotocols) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${server.page}assets/client.js`);
  const result = await page.evaluate(([address, subprotocols]) => new Promise((resolve) => {
    const socket = new WebSocket(address, subprotocols);
    socket.onmessage = ({ data }) => resolve({ from: JSON.parse(data).from, protocol: socket.protocol });
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean, protocol: socket.protocol });
  }), [address, subprotocols]);
  await context.close();
  return result;
}

/** @param {{ page: string }} server */
const base = ({ page }) => page.replace(/^http/, 'ws').replace(/\/$/, '');

for (const [path, code, reason] of [
  ['/ws?room=a%20b', 4000, /^`room` must not be "a b": it contains ' ' U\+0020/],
  ['/ws?room=caf%E9', 4000, /UTF-8/],
  ['/ws?since=undefined', 4000, /^`since` must be .*"undefined"$/],
  ['/ws?room[]=a', 4000, /"room\[\]" is unknown; write `room`/],
  ['/socket.io/?EIO=4&transport=websocket', 4004, /no WebSocket at \/socket\.io\/; it is at \/ws/],
  ['/', 4004, /it is at \/ws/],
]) {
  test(`the browser reports ${code} for ${path}`, async () => {
    for (const subprotocols of [[], ['json']]) {
      const close = await connect(base(server) + path, subprotocols);
      assert.equal(close.code, code);
      assert.match(close.reason, reason);
      assert.deepEqual([close.wasClean, close.protocol], [true, subprotocols[0] ?? '']);
    }
  });
}

test('the browser reports the origin that is not allowed', async () => {
  const close = await connect(`${base(strict)}/ws`, ['wscast']);
  const origin = new URL(server.page).origin;
  assert.deepEqual(close, { code: 4003, reason: `the origin ${origin} is not on --allow-origin`, wasClean: true, protocol: 'wscast' });
});

test('the browser accepts the subprotocol that the server chooses', async () => {
  for (const [offers, protocol] of [[['wscast', 'wscast.token.a.b.c'], 'wscast'], ['null', 'null'], [['a', 'b'], 'a'], [[], '']]) {
    assert.deepEqual(await connect(`${base(server)}/ws`, offers), { from: 'server', protocol });
  }
});
