// The page during outages of the network and of the server: no message is lost silently. A proxy in
// front of the server plays the failing network. Runs like page.test.mjs.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Proxy } from '../clients/proxy.mjs';
import { Tab, eventually, openBrowser, useBrowser } from './support.mjs';

const use = useBrowser();

/** The browser's own message when it cannot connect. A page cannot suppress it. */
const UNREACHABLE = /^WebSocket connection to .* failed|Failed to load resource/;

/** Opens a connected tab at `address`, in a profile of its own. */
async function openTab(t, address, locale = 'en-US') {
  const context = await use.browser.newContext({ locale });
  t.after(() => context.close());
  const tab = await Tab.open(context, address);
  await tab.waitForState('connected');
  return tab;
}

/** Opens a tab for Alice behind a proxy, and a tab for Bob without one. */
async function openAliceAndBob(t) {
  const proxy = await Proxy.start(t, Number(new URL(use.server.page).port));
  const alice = await openTab(t, proxy.ws.replace('ws://', 'http://').replace(/ws$/, ''));
  const bob = await openTab(t, use.server.page);
  return { proxy, alice, bob };
}

async function goOffline(tab, proxy) {
  proxy.mode = 'refuse';
  proxy.cut();
  await tab.page.locator('#state:not([data-state="connected"])').waitFor();
}

/** Returns the messages in the log from the first `from` on, in order. */
async function messages(tab, from) {
  const texts = await tab.page.locator('#log .entry[data-type=message] .payload').allTextContents();
  return texts.slice(Math.max(0, texts.indexOf(from)));
}

describe('a network outage', () => {
  test('the page shows the missed messages once and in order', async (t) => {
    const { proxy, alice, bob } = await openAliceAndBob(t);
    await bob.say('before');
    await alice.sees('before');

    await goOffline(alice, proxy);
    const said = Array.from({ length: 4 }, (_, n) => `missed ${n}`);
    for (const text of said) await bob.say(text);
    proxy.mode = 'pass';
    await alice.waitForState('connected');
    await bob.say('after');

    await alice.sees('after');
    assert.deepEqual(await messages(alice, 'before'), ['before', ...said, 'after']);
    await alice.sees('Connected again after', { type: 'disconnected' });
    assert.equal(await alice.page.locator('#log .entry[data-type=gap]').count(), 0);
    alice.assertNoConsoleErrors({ except: UNREACHABLE });
  });

  test('a message sent during an outage waits, is announced as waiting, and is published once', async (t) => {
    const { proxy, alice, bob } = await openAliceAndBob(t);
    await goOffline(alice, proxy);

    await alice.say('said offline');
    await alice.page.locator('.entry[data-status=pending]', { hasText: 'said offline' }).waitFor();
    assert.equal(await alice.text('#unsent'), '1 waiting to be sent');
    await alice.sendEvent('{"said": "offline too"}');
    assert.equal(await alice.text('#unsent'), '2 waiting to be sent');
    proxy.mode = 'pass';

    await alice.waitForState('connected');
    await alice.say('said online');
    for (const tab of [alice, bob]) {
      await tab.sees('said online');
      await tab.sees('offline too', { type: 'custom_event' });
      assert.deepEqual(await messages(tab, 'said offline'), ['said offline', 'said online']);
      assert.equal(await tab.count('offline too', { type: 'custom_event' }), 1);
    }
    assert.equal(await alice.text('#unsent'), '');
    assert.equal(await alice.page.locator('.entry.own[data-status=stored]').count(), 3, 'the messages are marked as own');
    alice.assertNoConsoleErrors({ except: UNREACHABLE });
  });

  test('a message whose acknowledgement was lost is published once', async (t) => {
    const { proxy, alice, bob } = await openAliceAndBob(t);
    proxy.dropReplies();
    await alice.say('once');
    await bob.sees('once');
    await goOffline(alice, proxy);
    proxy.mode = 'pass';

    await alice.waitForState('connected');
    await alice.say('next');
    for (const tab of [alice, bob]) {
      await tab.sees('next');
      assert.deepEqual(await messages(tab, 'once'), ['once', 'next']);
    }
    assert.equal(await alice.page.locator('.entry.own').count(), 2);
    alice.assertNoConsoleErrors({ except: UNREACHABLE });
  });

  test('the browser’s online event ends the wait', async (t) => {
    const { proxy, alice } = await openAliceAndBob(t);
    await goOffline(alice, proxy);
    await alice.page.evaluate(() => dispatchEvent(new Event('offline')));
    await alice.page.locator('#countdown', { hasText: /Next attempt in (1[0-9]|20) s/ }).waitFor();
    proxy.mode = 'pass';
    await alice.page.evaluate(() => dispatchEvent(new Event('online')));
    await alice.waitForState('connected');
    await alice.say('hello');
    await alice.sees('hello');
    alice.assertNoConsoleErrors({ except: UNREACHABLE });
  });
});

describe('the back/forward cache', () => {
  test('a page that comes back reconnects at once and shows the missed messages', async (t) => {
    const cachingBrowser = await openBrowser({ backForwardCache: true });
    t.after(() => cachingBrowser.close());
    const alice = await Tab.open(await cachingBrowser.newContext({ locale: 'en-US' }), use.server.page);
    await alice.waitForState('connected');
    await alice.page.evaluate(() => {
      addEventListener('pageshow', ({ persisted }) => { globalThis.cameFromCache = persisted; });
    });
    const bob = await openTab(t, use.server.page);

    await alice.page.goto(`${use.server.page}health`);
    await bob.say('missed');
    await bob.sees('missed');
    await alice.page.goBack({ waitUntil: 'commit' });
    await alice.waitForState('connected');

    await alice.sees('missed');
    assert.equal(await alice.page.evaluate('cameFromCache'), true);
    assert.equal(await alice.page.locator('#log .entry[data-type=disconnected], #notice:visible').count(), 0, 'no outage is reported');
    // The browser asks for an icon of the other page.
    alice.assertNoConsoleErrors({ except: /status of 404/ });
  });
});

describe('a server restart', () => {
  test('the page reports the gap in the reader’s language', async (t) => {
    const english = await openTab(t, use.server.page);
    const chinese = await openTab(t, use.server.page, 'zh-CN');
    await english.say('before the restart');
    await chinese.sees('before the restart');

    await use.server.kill();
    for (const tab of [english, chinese]) await tab.page.locator('#state:not([data-state="connected"])').waitFor();
    await english.say('waits');
    await use.server.start();

    for (const tab of [english, chinese]) await tab.sees('waits');
    await english.sees('lobby has restarted', { type: 'gap', room: 'lobby' });
    await chinese.sees('房间 lobby 已重新编号', { type: 'gap', room: 'lobby' });
    for (const tab of [english, chinese]) {
      assert.deepEqual(await messages(tab, 'before the restart'), ['before the restart', 'waits']);
      assert.equal(await tab.page.locator('#log .entry[data-type=gap]').count(), 1);
      tab.assertNoConsoleErrors({ except: UNREACHABLE });
    }
  });

  test('a message that may have been stored before the restart is reported and not published again', async (t) => {
    const { proxy, alice, bob } = await openAliceAndBob(t);
    proxy.dropReplies();
    await alice.say('perhaps');
    await bob.sees('perhaps');
    await use.server.kill();
    proxy.mode = 'refuse';
    proxy.cut();
    await use.server.start();
    proxy.mode = 'pass';

    await alice.page.locator('.entry[data-status=failed]', { hasText: 'This may or may not have been published' }).waitFor();
    await alice.waitForState('connected');
    await bob.waitForState('connected');
    await alice.say('sure');
    await bob.sees('sure');
    assert.deepEqual(await messages(bob, 'perhaps'), ['perhaps', 'sure']);
    alice.assertNoConsoleErrors({ except: UNREACHABLE });
    await eventually('no unsent message', async () => (await alice.text('#unsent')) === '');
  });
});
