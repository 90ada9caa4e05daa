// The test page during outages of the network and of the server: nothing is lost, or it is told.
// Run as page.test.mjs is; a proxy before the server is the network that fails.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { Proxy } from '../clients/proxy.mjs';
import { Server, Tab, eventually, openBrowser } from './support.mjs';

let browser;
let server;
let contexts;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
});

after(async () => {
  await browser?.close();
  await server?.kill();
});

beforeEach(() => {
  contexts = [];
});

afterEach(async () => {
  for (const context of contexts) await context.close();
});

/** What the browser itself reports when it cannot connect; the page cannot keep it from doing so. */
const UNREACHABLE = /^WebSocket connection to .* failed/;

/** A tab of a reader of `locale` that is connected through `address`. */
async function openTab(address, locale = 'en-US') {
  const context = await browser.newContext({ locale });
  contexts.push(context);
  const tab = await Tab.open(context, address);
  await tab.is('connected');
  return tab;
}

/** Alice, whose network can fail, and Bob, whose does not. */
async function scene(t) {
  const proxy = await Proxy.start(t, Number(new URL(server.page).port));
  const alice = await openTab(proxy.ws.replace('ws://', 'http://').replace(/ws$/, ''));
  const bob = await openTab(server.page);
  return { proxy, alice, bob };
}

async function goesOffline(tab, proxy) {
  proxy.mode = 'refuse';
  proxy.cut();
  await tab.page.locator('#state:not([data-state="connected"])').waitFor();
}

/** What the log shows of a room, in order. */
async function log(tab, room = 'lobby') {
  return tab.page.locator(`#log .entry[data-type=message][data-room="${room}"] .payload`).allTextContents();
}

describe('the network fails', () => {
  test('what others said meanwhile is shown once and in order', async (t) => {
    const { proxy, alice, bob } = await scene(t);
    await bob.say('before');
    await alice.sees('before');

    await goesOffline(alice, proxy);
    const said = Array.from({ length: 12 }, (_, n) => `missed ${n}`);
    for (const text of said) await bob.say(text);
    proxy.mode = 'pass';
    await alice.is('connected');
    await bob.say('after');

    await alice.sees('after');
    assert.deepEqual(await log(alice), ['before', ...said, 'after']);
    assert.equal(await alice.page.locator('#log .entry[data-type=gap]').count(), 0);
    alice.isQuiet({ except: UNREACHABLE });
  });

  test('what is said meanwhile waits, which the page says, and is said once', async (t) => {
    const { proxy, alice, bob } = await scene(t);
    await goesOffline(alice, proxy);

    await alice.say('said offline');
    assert.equal(await alice.text('#unsent'), '1 waiting to be sent');
    await alice.sendEvent('{"said": "offline too"}');
    assert.equal(await alice.text('#unsent'), '2 waiting to be sent');
    proxy.mode = 'pass';

    await alice.is('connected');
    await alice.say('said online');
    for (const tab of [alice, bob]) {
      await tab.sees('said online');
      await tab.sees('offline too', { type: 'custom_event' });
      assert.deepEqual(await log(tab), ['said offline', 'said online']);
      assert.equal(await tab.count('offline too', { type: 'custom_event' }), 1);
    }
    assert.equal(await alice.text('#unsent'), '');
    assert.equal(await alice.page.locator('.entry.own').count(), 3, 'they are shown as one’s own');
    alice.isQuiet({ except: UNREACHABLE });
  });

  test('a message whose acknowledgement was lost is not said twice', async (t) => {
    const { proxy, alice, bob } = await scene(t);
    proxy.swallowAnswers();
    await alice.say('once');
    await bob.sees('once');
    await goesOffline(alice, proxy);
    proxy.mode = 'pass';

    await alice.is('connected');
    await alice.say('next');
    for (const tab of [alice, bob]) {
      await tab.sees('next');
      assert.deepEqual(await log(tab), ['once', 'next']);
    }
    assert.equal(await alice.page.locator('.entry.own').count(), 2);
    alice.isQuiet({ except: UNREACHABLE });
  });

  test('the browser’s news that the network is back ends the wait', async (t) => {
    const { proxy, alice } = await scene(t);
    await goesOffline(alice, proxy);
    await alice.page.evaluate(() => dispatchEvent(new Event('offline')));
    await alice.page.locator('#countdown', { hasText: /Reconnecting in (1[0-9]|20) s/ }).waitFor();
    proxy.mode = 'pass';
    await alice.page.evaluate(() => dispatchEvent(new Event('online')));
    await alice.is('connected');
    await alice.say('hello');
    await alice.sees('hello');
    alice.isQuiet({ except: UNREACHABLE });
  });
});

describe('the server is started again', () => {
  test('the gap is told in the reader’s language', async () => {
    const english = await openTab(server.page);
    const chinese = await openTab(server.page, 'zh-CN');
    await english.say('before');
    await chinese.sees('before');

    await server.kill();
    for (const tab of [english, chinese]) await tab.page.locator('#state:not([data-state="connected"])').waitFor();
    await english.say('waits');
    await server.start();

    for (const tab of [english, chinese]) await tab.sees('waits');
    await english.sees('lobby has started anew', { type: 'gap', room: 'lobby' });
    await chinese.sees('lobby 已重新开始', { type: 'gap', room: 'lobby' });
    for (const tab of [english, chinese]) {
      assert.deepEqual(await log(tab), ['before', 'waits']);
      assert.equal(await tab.page.locator('#log .entry[data-type=gap]').count(), 1);
      tab.isQuiet({ except: UNREACHABLE });
    }
  });

  test('what it may have had already is reported, not said again', async (t) => {
    const { proxy, alice, bob } = await scene(t);
    proxy.swallowAnswers();
    await alice.say('perhaps');
    await bob.sees('perhaps');
    await server.kill();
    proxy.mode = 'refuse';
    proxy.cut();
    await server.start();
    proxy.mode = 'pass';

    await alice.sees('It is not known whether this was published', { type: 'error' });
    await alice.is('connected');
    await bob.is('connected');
    await alice.say('sure');
    await bob.sees('sure');
    assert.deepEqual(await log(bob), ['perhaps', 'sure']);
    alice.isQuiet({ except: UNREACHABLE });
    await eventually('that nothing waits', async () => (await alice.text('#unsent')) === '');
  });
});
