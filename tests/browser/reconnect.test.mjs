// When the test page reconnects, and what it shows meanwhile. Runs like page.test.mjs.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { Server, Tab, eventually, openBrowser, openScripted } from './support.mjs';

let browser;
let server;
let context;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
});

after(async () => {
  await browser?.close();
  await server?.kill();
});

beforeEach(async () => {
  context = await browser.newContext({ locale: 'en-US' });
});

afterEach(async () => {
  await context.close();
});

/** Opens a connected tab. */
async function openTab(query = '') {
  const tab = await Tab.open(context, server.page + query);
  await tab.waitForState('connected');
  return tab;
}

/** The browser's own message when the server is gone. A page cannot suppress it. */
const SERVER_GONE = /^WebSocket connection to .* failed/;

describe('reconnecting', () => {
  test('tabs rejoin their rooms after the server was killed and restarted', async () => {
    const alice = await openTab();
    const bob = await openTab();
    await alice.join('ops');
    await bob.join('ops');

    await server.kill();
    for (const tab of [alice, bob]) {
      await tab.page.locator('#state:not([data-state="connected"])').waitFor();
      assert.ok(await tab.page.isDisabled('#join-room'), 'the button is disabled without a connection');
    }
    await server.start();

    for (const tab of [alice, bob]) {
      await tab.waitForState('connected');
      await tab.isIn('lobby');
      await tab.isIn('ops', { members: 2 });
      // The address resumes both rooms.
      const { searchParams } = new URL(tab.addresses.at(-1));
      assert.deepEqual(searchParams.getAll('room'), ['lobby', 'ops']);
      assert.equal(searchParams.getAll('epoch').length, 2);
    }
    await alice.say('back again', { to: 'ops' });
    await bob.sees('back again', { room: 'ops' });
    assert.equal(await bob.count('back again'), 1);
    for (const tab of [alice, bob]) tab.assertNoConsoleErrors({ except: SERVER_GONE });
  });

  test('a tab that left every room joins none after a reconnect', async () => {
    const alice = await openTab();
    await alice.leave('lobby');
    assert.ok(await alice.page.isDisabled('#send-message'));

    await server.kill();
    await alice.page.locator('#state:not([data-state="connected"])').waitFor();
    await server.start();

    await alice.waitForState('connected');
    await alice.page.locator('#rooms-empty').waitFor();
    assert.equal(await alice.page.locator('#rooms > li').count(), 0);
    alice.assertNoConsoleErrors({ except: SERVER_GONE });
  });

  test('a tab notices a server that does not respond', async () => {
    const page = await context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(server.page);
    await alice.waitForState('connected');

    server.freeze();
    try {
      // In small steps, because a frame sent before the freeze may arrive late and reset the heartbeat.
      await eventually('the row about the silence', async () => {
        await page.clock.runFor(1_000);
        return alice.count('the server does not respond', { type: 'disconnected' });
      });
      assert.ok(alice.sent.includes('{"type":"ping"}'), 'the page sent a ping first');
    } finally {
      server.thaw();
    }
    await page.clock.runFor(1_000);
    await alice.waitForState('connected');
    alice.assertNoConsoleErrors({ except: /closed before the connection is established/ });
  });

  test('a quiet tab stays connected while the server replies to pings', async () => {
    const page = await context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(server.page);
    await alice.waitForState('connected');
    const client = await alice.text('#client');

    for (let round = 1; round <= 3; round += 1) {
      await page.clock.runFor(26_000);
      await eventually('a pong', () => alice.received.filter((frame) => frame.includes('"pong"')).length === round);
    }
    await page.clock.runFor(12_000);
    await alice.waitForState('connected');
    assert.equal(await alice.text('#client'), client);
    alice.assertNoConsoleErrors();
  });

  test('a tab sends a ping after 25 s of silence and reconnects 10 s later', async () => {
    const { tab, sockets, sent } = await openScripted(context, server, { frozen: true });
    const pings = () => sent.filter((frame) => frame === '{"type":"ping"}').length;
    sockets[0].send('{"type":"presence","payload":{"members":7},"room":"lobby"}');
    await tab.isIn('lobby', { members: 7 });
    const before = pings();

    await tab.page.clock.runFor(24_999);
    assert.equal(pings(), before);
    await tab.page.clock.runFor(1);
    await eventually('a ping', () => pings() === before + 1);

    await tab.page.clock.runFor(9_999);
    assert.equal(await tab.page.getAttribute('#state', 'data-state'), 'connected');
    await tab.page.clock.runFor(1);
    await tab.waitForState('reconnecting');
    assert.match(await tab.text('#state'), /the server does not respond/);
    tab.assertNoConsoleErrors();
  });
});

describe('close codes', () => {
  test('codes 4000 to 4099 close the tab’s connection until the reader reconnects', async () => {
    const { tab, sockets } = await openScripted(context, server);
    await sockets[0].close({ code: 4003, reason: 'forbidden' });

    await tab.waitForState('closed');
    assert.match(await tab.text('#state'), /forbidden \(4003\)/);
    await tab.page.clock.runFor(120_000);
    assert.equal(sockets.length, 1);

    await tab.page.click('#reconnect');
    await tab.waitForState('connected');
    assert.equal(sockets.length, 2);
    tab.assertNoConsoleErrors();
  });

  for (const [code, reason, shown] of [
    [4003, 'origin https://a.example is not on --allow-origin', 'forbidden: origin https://a.example is not on --allow-origin (4003)'],
    [4003, 'forbidden', 'forbidden (4003)'],
    [4050, 'since must be a whole number', 'since must be a whole number (4050)'],
  ]) {
    test(`the page shows why it may not connect: ${reason}`, async () => {
      const { tab, sockets } = await openScripted(context, server);
      await sockets[0].close({ code, reason });
      await tab.waitForState('closed');
      assert.equal(await tab.text('#state-reason'), shown);
      await tab.sees(shown, { type: 'disconnected' });
      tab.assertNoConsoleErrors();
    });
  }

  test('codes 4200 to 4299 reconnect at once, and with backoff the second time', async () => {
    const { tab, sockets } = await openScripted(context, server, { frozen: true });
    await sockets[0].close({ code: 4200, reason: 'move on' });
    await tab.page.clock.runFor(1);
    await eventually('the second connection', () => sockets.length === 2);
    await tab.waitForState('connected');

    await sockets[1].close({ code: 4200, reason: 'move on' });
    await tab.waitForState('reconnecting');
    await tab.page.clock.runFor(499);
    assert.equal(sockets.length, 2);
    await tab.page.clock.runFor(2_000);
    await eventually('the third connection', () => sockets.length === 3);
    tab.assertNoConsoleErrors();
  });

  test('other codes reconnect with growing backoff, which a stable connection resets', async () => {
    const { tab, sockets } = await openScripted(context, server, { frozen: true, random: 1 });
    // A random value of 1 makes every wait the longest one.
    let connections = 1;
    for (const [code, wait] of [[1001, 1_000], [1011, 2_000], [1012, 4_000], [1013, 8_000], [4100, 16_000], [1001, 20_000], [4101, 20_000]]) {
      await sockets.at(-1).close({ code });
      await tab.waitForState('reconnecting');
      await tab.page.clock.runFor(wait - 1);
      assert.equal(sockets.length, connections, `${code} waits ${wait} ms`);
      await tab.page.clock.runFor(1);
      connections += 1;
      await eventually(`connection ${connections}`, () => sockets.length === connections);
      await tab.waitForState('connected');
    }

    await tab.page.clock.runFor(5_000);
    await sockets.at(-1).close({ code: 1001 });
    await tab.waitForState('reconnecting');
    assert.match(await tab.text('#countdown'), /^Reconnecting in 1 s$/);
    await tab.page.clock.runFor(1_000);
    await eventually('the next connection', () => sockets.length === connections + 1);
    tab.assertNoConsoleErrors();
  });
});
