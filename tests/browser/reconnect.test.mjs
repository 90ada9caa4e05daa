// When the page reconnects, and what it shows meanwhile. Runs like page.test.mjs.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Tab, eventually, openScripted, useBrowser } from './support.mjs';

const use = useBrowser();
const openTab = (query) => use.openTab(query);

/** The browser's own message when the server is gone. A page cannot suppress it. */
const SERVER_GONE = /^WebSocket connection to .* failed|Failed to load resource/;

describe('reconnecting', () => {
  test('tabs rejoin their rooms after the server was killed and restarted', async () => {
    const alice = await openTab();
    const bob = await openTab();
    await alice.join('ops');
    await bob.join('ops');

    await use.server.kill();
    for (const tab of [alice, bob]) {
      await tab.page.locator('#state:not([data-state="connected"])').waitFor();
      assert.ok(await tab.page.isDisabled('#join-room'), 'the button is disabled without a connection');
    }
    await use.server.start();

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
    assert.ok(await alice.page.isDisabled('#send'));

    await use.server.kill();
    await alice.page.locator('#state:not([data-state="connected"])').waitFor();
    await use.server.start();

    await alice.waitForState('connected');
    await alice.page.locator('#rooms-empty').waitFor();
    assert.equal(await alice.page.locator('#rooms > li').count(), 0);
    alice.assertNoConsoleErrors({ except: SERVER_GONE });
  });

  test('a frozen server is noticed by a message without a reply, and the tab reconnects', async () => {
    const page = await use.context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(use.server.page);
    await alice.waitForState('connected');

    use.server.freeze();
    try {
      await alice.say('is anybody there?');
      await page.locator('.entry[data-status=pending]').waitFor();
      await eventually('the notice about the silence', async () => {
        await page.clock.runFor(1_000);
        return /The server has not replied for \d+ s\./.test(await alice.text('#notice-text'));
      });
      await eventually('the end of the connection', async () => {
        await page.clock.runFor(1_000);
        return (await page.getAttribute('#state', 'data-state')) !== 'connected';
      });
    } finally {
      use.server.thaw();
    }
    await eventually('the connection', async () => {
      await page.clock.runFor(1_000);
      return (await page.getAttribute('#state', 'data-state')) === 'connected';
    });
    await page.locator('.entry.own[data-status=stored]', { hasText: 'is anybody there?' }).waitFor();
    assert.equal(await alice.count('is anybody there?'), 1);
    alice.assertNoConsoleErrors({ except: /closed before the connection is established|Failed to load resource/ });
  });

  test('a quiet tab stays connected while the server replies to pings', async () => {
    const page = await use.context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(use.server.page);
    await alice.waitForState('connected');

    const pongs = () => alice.received.filter((frame) => frame.includes('"pong"')).length;
    for (let round = 1; round <= 3; round += 1) {
      const before = pongs();
      await page.clock.runFor(6_000);
      await eventually('a pong', () => pongs() > before);
    }
    await alice.waitForState('connected');
    assert.equal(alice.addresses.length, 1);
    alice.assertNoConsoleErrors();
  });
});

describe('close codes', () => {
  test('codes 4000 to 4099 close the tab’s connection until the reader reconnects', async () => {
    const { tab, sockets } = await openScripted(use.context, use.server);
    await sockets[0].close({ code: 4003, reason: 'forbidden' });

    await tab.waitForState('closed');
    assert.equal(await tab.text('#notice-text'), 'The server does not allow this (4003).');
    await tab.page.clock.runFor(120_000);
    assert.equal(sockets.length, 1);

    await tab.page.click('#reconnect');
    await tab.waitForState('connected');
    assert.equal(sockets.length, 2);
    tab.assertNoConsoleErrors();
  });

  for (const [code, reason, shown] of [
    [4003, 'origin https://a.example is not on --allow-origin', 'The server does not allow this: origin https://a.example is not on --allow-origin (4003).'],
    [4003, 'you may not read lobby', 'You may not read lobby (4003).'],
    [4050, 'since must be a whole number', 'since must be a whole number (4050).'],
  ]) {
    test(`the page says once why it may not connect: ${reason}`, async () => {
      const { tab, sockets } = await openScripted(use.context, use.server);
      await sockets[0].close({ code, reason });
      await tab.waitForState('closed');
      const texts = await tab.page.evaluate(() => document.body.innerText);
      assert.equal(texts.split(shown.slice(0, -1)).length - 1, 1, texts);
      assert.equal(await tab.text('#notice-text'), shown);
      tab.assertNoConsoleErrors();
    });
  }

  test('codes 4200 to 4299 reconnect at once, and with backoff the second time', async () => {
    const { tab, sockets } = await openScripted(use.context, use.server, { frozen: true });
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
    const { tab, sockets } = await openScripted(use.context, use.server, { frozen: true, random: 1 });
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
    assert.match(await tab.text('#countdown'), /^Next attempt in 1 s$/);
    await tab.page.clock.runFor(1_000);
    await eventually('the next connection', () => sockets.length === connections + 1);
    tab.assertNoConsoleErrors();
  });
});
