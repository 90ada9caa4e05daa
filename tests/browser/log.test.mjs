// The log: history, reading undisturbed, unread messages, the filter, copies and exports, 100 000 rows.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';

import { eventually, openScripted, useBrowser } from './support.mjs';

const use = useBrowser(['--max-request-rate', '0', '--max-http-rate', '0']);
const openTab = (query) => use.openTab(query);

/** Publishes `count` numbered messages. */
async function publishMany(room, count, from = 1) {
  for (let n = from; n < from + count; n += 1) await use.publish(room, `number ${n}`);
}

/** Returns the offset of the message at the top of the log. */
function topOffset(tab) {
  return tab.page.evaluate(() => {
    const log = document.getElementById('log').getBoundingClientRect();
    const entries = [...document.querySelectorAll('#log .entry')];
    const first = entries.find((entry) => entry.getBoundingClientRect().bottom > log.top + 1);
    return { offset: first.querySelector('.offset')?.textContent, px: Math.round(first.getBoundingClientRect().top - log.top) };
  });
}

async function scrollTo(tab, part) {
  await tab.page.evaluate((part) => {
    const log = document.getElementById('log');
    log.scrollTop = part * log.scrollHeight;
  }, part);
}

describe('history', () => {
  test('a room shows its messages on joining, more on scrolling up, and its start', async () => {
    await publishMany('long', 450);
    const tab = await openTab('?room=long');
    await tab.sees('number 450');
    const requests = () => tab.sent.filter((frame) => frame.includes('"history"')).length;
    assert.equal(requests(), 1, 'the first page is enough at first');
    await eventually('the start of the room', async () => {
      await scrollTo(tab, 0);
      return (await tab.text('#log-top-text')) === 'This is the start of the room.' && (await topOffset(tab)).offset === '#1';
    });
    assert.equal(requests(), 3);
    const [download] = await Promise.all([tab.page.waitForEvent('download'), tab.page.click('#export-log')]);
    const lines = readFileSync(await download.path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
    assert.equal(download.suggestedFilename(), 'long.jsonl');
    assert.deepEqual(lines.map(({ offset, payload }) => [offset, payload]), Array.from({ length: 450 }, (_, n) => [n + 1, `number ${n + 1}`]));
    tab.assertNoConsoleErrors();
  });

  test('what is older than a long range of expired messages is found', async () => {
    const publish = async (from, to, ttl) => {
      const messages = Array.from({ length: to - from + 1 }, (_, n) => ({ type: 'message', room: 'gaps', payload: `number ${from + n}`, ttl }));
      const response = await fetch(`${use.server.page}messages`, {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(messages),
      });
      assert.equal((await response.json()).published, messages.length);
    };
    await publish(1, 3);
    await publish(4, 603, 1);
    await publish(604, 630);
    await eventually('the end of the ttls', async () => {
      const page = await (await fetch(`${use.server.page}rooms/gaps/messages?since=0`)).json();
      return page.messages.length === 30;
    });
    const tab = await openTab('?room=gaps');
    await tab.sees('number 630');
    await eventually('the start of the room', async () => {
      await scrollTo(tab, 0);
      return (await tab.text('#log-top-text')) === 'This is the start of the room.' && (await topOffset(tab)).offset === '#1';
    });
    await tab.sees('number 3');
    tab.assertNoConsoleErrors();
  });

  test('what arrived while the page was closed is marked after a reload', async () => {
    await publishMany('resumed', 3);
    const tab = await openTab('?room=resumed');
    await tab.sees('number 3');
    const address = tab.page.url();
    await tab.page.goto('about:blank');
    await publishMany('resumed', 300, 4);
    await tab.page.goto(address);
    await tab.sees('number 303');
    await eventually('the first unread message', async () => {
      await scrollTo(tab, 0);
      const mark = tab.page.locator('.entry', { has: tab.page.locator('.unread-mark') });
      return (await mark.count()) === 1 && /#4number 4/.test(await mark.textContent());
    });
  });

  test('clearing keeps history away until the reader asks for it', async () => {
    await publishMany('cleared', 3);
    const tab = await openTab('?room=cleared');
    await tab.sees('number 3');
    await tab.page.click('#clear-log');
    await tab.page.locator('#log .entry').first().waitFor({ state: 'detached' });
    await use.publish('cleared', 'new');
    await tab.sees('new');
    assert.equal(await tab.count('number 3'), 0);
    await tab.page.getByRole('button', { name: 'Show older messages' }).click();
    await tab.sees('number 3');
  });

  test('days are separated, and an old message says its date', async () => {
    const { tab, sockets } = await openScripted(use.context, use.server);
    for (const [offset, ts] of [[1, Date.UTC(2024, 1, 29, 12)], [2, Date.UTC(2024, 1, 29, 13)], [3, Date.UTC(2024, 2, 1, 12)]]) {
      sockets[0].send(JSON.stringify({ type: 'message', payload: `at ${offset}`, room: 'lobby', offset, from: 'c0-2', ts }));
    }
    await tab.sees('at 3');
    assert.deepEqual(await tab.page.locator('.day').allTextContents(), ['Thursday, February 29, 2024', 'Friday, March 1, 2024']);
  });
});

describe('reading', () => {
  test('new messages neither move what is read nor cost the connection, and following continues at the end', async () => {
    await publishMany('reading', 60);
    const tab = await openTab('?room=reading');
    await tab.sees('number 60');
    await scrollTo(tab, 0.4);
    await tab.page.locator('#pause[aria-pressed=true]').waitFor();
    const before = await topOffset(tab);
    await publishMany('reading', 40, 61);
    await tab.page.locator('#log-end', { hasText: '40 new messages' }).waitFor();
    assert.deepEqual(await topOffset(tab), before);
    await eventually('the title', async () => /^\(40\) reading/.test(await tab.page.title()));
    assert.match(await tab.page.getAttribute('#icon', 'href'), /d92f3c/);
    await tab.page.click('#log-end');
    await tab.sees('number 100');
    await eventually('the title', async () => (await tab.page.title()) === 'reading · wscast');
    assert.equal(tab.addresses.length, 1);
  });

  test('a paused log stands still at its end, and follows again', async () => {
    await publishMany('paused', 30);
    const tab = await openTab('?room=paused');
    await tab.sees('number 30');
    await tab.page.click('#pause');
    const before = await topOffset(tab);
    await publishMany('paused', 20, 31);
    await tab.page.locator('#log-end', { hasText: '20 new messages' }).waitFor();
    assert.deepEqual(await topOffset(tab), before);
    await tab.page.locator('#log').focus();
    await tab.page.keyboard.press('End');
    await tab.sees('number 50');
    assert.equal(await tab.text('#pause'), 'Pause');
  });

  test('unread messages of other rooms are counted, and the first one is marked', async () => {
    const tab = await openTab('?room=a&room=b');
    await tab.isIn('b');
    await tab.select('a');
    await use.publish('b', 'one', 'two');
    await tab.page.locator('[data-room=b] .unread', { hasText: '2' }).waitFor();
    await eventually('the title', async () => /^\(2\) a/.test(await tab.page.title()));
    await tab.select('b');
    await tab.page.locator('.entry', { hasText: 'one' }).locator('.unread-mark').waitFor();
    assert.equal(await tab.text('[data-room=b] .unread'), '');
    await eventually('the title', async () => (await tab.page.title()) === 'b · wscast');
  });
});

test('the filter finds texts, senders and offsets, also among messages that arrive later', async () => {
  await publishMany('filtered', 20);
  const tab = await openTab('?room=filtered');
  await tab.sees('number 20');
  await tab.page.fill('#filter', 'NUMBER 1');
  await eventually('the matches', async () => (await tab.page.locator('#log .entry').count()) === 11);
  assert.equal(await tab.text('#log-top-text'), '11 matches among 20 loaded messages');
  await publishMany('filtered', 80, 21);
  await eventually('the new match', async () => (await tab.page.locator('#log .entry').count()) === 12);
  await tab.page.fill('#filter', '#7');
  await eventually('the offset', async () => (await tab.page.locator('#log .entry').allTextContents()).join().includes('#7number 7'));
  assert.equal(await tab.page.locator('#log .entry').count(), 1);
  await tab.page.fill('#filter', 'a(b');
  await eventually('no match', async () => (await tab.page.locator('#log .entry').count()) === 0);
  tab.assertNoConsoleErrors();
});

test('long payloads are collapsed, open and close, and are copied whole', async () => {
  await use.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const tab = await openTab('?room=payloads');
  const long = Array.from({ length: 100 }, (_, n) => `line ${n}`).join('\n');
  await use.publish('payloads', long);
  const row = tab.page.locator('.entry', { hasText: 'line 0' });
  await row.waitFor();
  assert.ok(!(await row.textContent()).includes('line 50'));
  await row.getByRole('button', { name: /^Show all \(\d+ B\)$/ }).click();
  await row.filter({ hasText: 'line 99' }).waitFor();
  await row.hover();
  await row.getByRole('button', { name: 'Copy', exact: true }).click();
  assert.equal(await tab.page.evaluate(() => navigator.clipboard.readText()), long);
  await row.getByRole('button', { name: 'Show less' }).click();
  await row.getByRole('button', { name: /Show all/ }).waitFor();
});

/** Runs in the page. Replaces WebSockets by one that is connected to nobody, and that `feed` sends messages on. */
function installFedSocket() {
  globalThis.WebSocket = class extends EventTarget {
    readyState = 1;

    constructor() {
      super();
      globalThis.feed = (first, count) => {
        for (let n = first; n < first + count; n += 1) {
          this.receive(`{"type":"message","payload":"number ${n}","room":"lobby","offset":${n},"from":"c0-2","ts":0}`);
        }
      };
      setTimeout(() => this.receive(JSON.stringify({
        type: 'message', payload: 'hi', from: 'server', client: 'c0-1',
        rooms: [{ room: 'lobby', epoch: '0', offset: 0, recovered: false, members: 1 }],
      })));
    }

    receive(data) {
      const event = new MessageEvent('message', { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    send(text) {
      const { type, id } = JSON.parse(text);
      if (type === 'ping') setTimeout(() => this.receive(JSON.stringify({ type: 'pong', id, payload: {} })));
    }

    close() {}
  };
}

test('a log of 100 000 messages draws only what is on the screen, keeps its bound, and reaches every row', async () => {
  await use.context.addInitScript(installFedSocket);
  const tab = await openTab();
  for (let first = 1; first <= 112_000; first += 8_000) await tab.page.evaluate((first) => globalThis.feed(first, 8_000), first);
  await tab.sees('number 112000');
  const drawn = await tab.page.locator('#log .entry').count();
  assert.ok(drawn < 100, `${drawn} rows are drawn`);
  const rows = await tab.page.evaluate(() => Number(document.querySelector('#log .entry').getAttribute('aria-setsize')));
  assert.ok(rows >= 100_000 && rows <= 110_000, `${rows} rows are kept`);
  await scrollTo(tab, 0.5);
  const middle = await eventually('a row in the middle', async () => {
    const { offset } = await topOffset(tab).catch(() => ({}));
    return offset && Number(offset.slice(1)) < 90_000 && Number(offset.slice(1));
  });
  assert.ok(Math.abs(middle - (112_000 - rows / 2)) < 2_000, `row ${middle} is in the middle`);

  // Nothing is dropped from under the reader's eyes.
  const before = await topOffset(tab);
  await tab.page.evaluate(() => globalThis.feed(112_001, 10_000));
  await tab.page.locator('#log-end', { hasText: '10000 new messages' }).waitFor();
  assert.deepEqual(await topOffset(tab), before);

  await tab.page.fill('#filter', 'number 99999');
  await eventually('the match', async () => (await tab.page.locator('#log .entry').count()) === 1);
  tab.assertNoConsoleErrors();
});
