// The page below a path prefix, as a proxy serves it that strips the prefix. Runs like page.test.mjs.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { test } from 'node:test';

import { Tab, useBrowser } from './support.mjs';

const use = useBrowser();

/** Starts a proxy that serves the server below `prefix` and nothing else. Returns the page's address. */
async function startProxy(t, prefix) {
  const { hostname, port } = new URL(use.server.page);
  /** Returns the options of the forwarded request, or null for a path without the prefix. */
  const forward = ({ url, method, headers }) => {
    return url.startsWith(prefix) ? { hostname, port, method, headers, path: `/${url.slice(prefix.length)}` } : null;
  };
  const proxy = http.createServer((request, response) => {
    const options = forward(request);
    if (!options) return response.writeHead(404).end();
    return request.pipe(http.request(options, (reply) => {
      response.writeHead(reply.statusCode, reply.headers);
      reply.pipe(response);
    }));
  });
  proxy.on('upgrade', (request, socket) => {
    socket.on('error', () => {});
    const options = forward(request);
    if (!options) return socket.destroy();
    return http.request(options).on('upgrade', (reply, upstream, firstFrames) => {
      upstream.on('error', () => {}).on('close', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
      const lines = reply.rawHeaders.flatMap((text, n) => (n % 2 === 0 ? [`${text}: ${reply.rawHeaders[n + 1]}`] : []));
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`);
      socket.write(firstFrames);
      upstream.pipe(socket).pipe(upstream);
    }).end();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return `http://127.0.0.1:${proxy.address().port}${prefix}`;
}

for (const prefix of ['/chat/', '/apps/team%20a/chat/']) {
  test(`the page works below ${prefix}`, async (t) => {
    const address = await startProxy(t, prefix);
    const alice = await Tab.open(use.context, `${address}?room=ops`);
    const bob = await Tab.open(use.context, use.server.page);
    for (const tab of [alice, bob]) await tab.waitForState('connected');
    await bob.join('ops');

    await alice.say('hello', { to: 'ops' });
    await bob.sees('hello', { room: 'ops' });
    await alice.sendEvent('{"from": "below"}');
    await bob.sees('below', { type: 'custom_event' });

    assert.equal(new URL(alice.addresses[0]).pathname, `${prefix}ws`);
    assert.ok(alice.page.url().startsWith(`${address}?room=ops`), 'the page keeps its address');
    await alice.page.locator('#figure-clients', { hasText: /[12]/ }).waitFor();
    await alice.page.click('[data-panel=code]');
    await alice.page.locator('pre', { hasText: `curl -N ${address}rooms/ops/events` }).waitFor();
    await alice.page.reload();
    await alice.waitForState('connected');
    await alice.isIn('ops');
    alice.assertNoConsoleErrors();
  });
}
