// The field for messages and events.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { eventually, openScripted, useBrowser } from './support.mjs';

const use = useBrowser(['--max-message-bytes', '4096']);
const openTab = (query) => use.openTab(query);
const value = (tab) => tab.page.inputValue('#text');

describe('messages', () => {
  test('Enter sends, Shift + Enter starts a line, and Enter that ends an input of Chinese does nothing', async () => {
    const tab = await openTab();
    const { keyboard } = tab.page;
    await tab.page.focus('#text');
    await keyboard.type('first line');
    const low = (await tab.page.locator('#text').boundingBox()).height;
    await keyboard.press('Shift+Enter');
    await keyboard.type('second line');
    assert.ok((await tab.page.locator('#text').boundingBox()).height > low, 'the field grows');
    await tab.page.locator('#text').dispatchEvent('keydown', { key: 'Enter', isComposing: true });
    assert.equal(await value(tab), 'first line\nsecond line');
    await keyboard.press('Enter');
    await tab.page.locator('.entry.own', { hasText: 'second line' }).waitFor();
    assert.equal(await tab.page.locator('.entry.own .payload').last().innerText(), 'first line\nsecond line');
    assert.equal(await value(tab), '');
  });

  test('the arrow keys recall what was sent, also after a reload, and return to what was being written', async () => {
    const tab = await openTab();
    const { keyboard } = tab.page;
    for (const text of ['one', 'two']) {
      await tab.say(text);
      await tab.sees(text);
    }
    await tab.page.reload();
    await tab.waitForState('connected');
    await tab.page.fill('#text', 'draft');
    await keyboard.press('Home');
    for (const [key, shown] of [['ArrowUp', 'two'], ['ArrowUp', 'one'], ['ArrowUp', 'one'], ['ArrowDown', 'two'], ['ArrowDown', 'draft']]) {
      await keyboard.press(key);
      assert.equal(await value(tab), shown, key);
    }
  });

  test('each room keeps what is being written', async () => {
    const tab = await openTab('?room=a&room=b');
    await tab.isIn('b');
    await tab.select('a');
    await tab.page.fill('#text', 'for a');
    await tab.select('b');
    assert.equal(await value(tab), '');
    await tab.select('a');
    assert.equal(await value(tab), 'for a');
  });

  test('a message that is too large is not sent, and its text stays', async () => {
    const tab = await openTab();
    await eventually('the limit', async () => {
      await tab.page.fill('#text', `${'字'.repeat(1_400)}!`);
      return (await tab.text('#text-error')) !== '';
    });
    assert.equal(await tab.text('#text-error'), 'Too large for the server: 4.2 KiB, and it accepts 4 KiB.');
    await tab.page.click('#send');
    assert.equal((await value(tab)).length, 1_401);
    await tab.page.fill('#text', '字'.repeat(1_300));
    assert.equal(await tab.text('#text-error'), '');
    assert.match(await tab.text('#text-size'), /3\.\d KiB of 4 KiB/);
    await tab.page.click('#send');
    await tab.page.locator('.entry.own[data-status=stored]').waitFor();
    assert.equal(tab.addresses.length, 1);
    assert.equal(tab.sent.filter((frame) => frame.includes('"message"')).length, 1);
  });

  test('a message is pending until it is stored; a refused one is sent again on request, under its id', async () => {
    const { tab, sockets, sent } = await openScripted(use.context, use.server);
    const published = () => sent.map((frame) => JSON.parse(frame)).filter(({ type }) => type === 'message');
    await tab.say('hello');
    const row = tab.page.locator('.entry.own');
    await row.filter({ hasText: 'sending…' }).waitFor();
    const [{ id }] = published();
    sockets[0].send(JSON.stringify({ type: 'error', id, payload: { code: 'forbidden', message: 'you may not publish to lobby' } }));
    await tab.page.locator('.entry[data-status=failed]', { hasText: 'you may not publish to lobby' }).waitFor();
    assert.equal(await value(tab), 'hello');

    await row.getByRole('button', { name: 'Try again' }).click();
    await eventually('the second attempt', () => published().length === 2);
    assert.equal(published()[1].id, id);
    assert.equal(await value(tab), '', 'the text is not sent twice by mistake');
    sockets[0].send(JSON.stringify({ type: 'message', id, room: 'lobby', offset: 1, from: 'c0-1', ts: 0, payload: 'hello' }));
    sockets[0].send(JSON.stringify({ type: 'ack', id, room: 'lobby', payload: { room: 'lobby', epoch: '0', offset: 1 } }));
    await tab.page.locator('.entry.own[data-status=stored]', { hasText: '#1' }).waitFor();
    assert.equal(await row.count(), 1);
  });

  test('a refusal does not overwrite what the reader writes meanwhile', async () => {
    const { tab, sockets, sent } = await openScripted(use.context, use.server);
    await tab.say('refused');
    await tab.page.fill('#text', 'written since');
    const { id } = sent.map((frame) => JSON.parse(frame)).find(({ type }) => type === 'message');
    sockets[0].send(JSON.stringify({ type: 'error', id, payload: { code: 'forbidden', message: 'no' } }));
    const row = tab.page.locator('.entry[data-status=failed]');
    await row.waitFor();
    assert.equal(await value(tab), 'written since');
    assert.ok(!(await row.textContent()).includes('in the field'));
  });

  test('a message of the log is edited as a copy', async () => {
    const tab = await openTab();
    await use.publish('lobby', { action: 'copy me' });
    const row = tab.page.locator('.entry', { hasText: 'copy me' });
    await row.hover();
    await row.getByRole('button', { name: 'Edit a copy' }).click();
    assert.ok(await tab.page.isChecked('#mode-event'));
    assert.deepEqual(JSON.parse(await value(tab)), { action: 'copy me' });
  });
});

describe('custom events', () => {
  test('the field explains what is not JSON, and sends what is, digit for digit', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.sendEvent('{\n  "action": "greeting",\n}');
    assert.match(await alice.text('#text-error'), /^This is not JSON: .*line 3 column 1/);
    assert.equal(await alice.page.getAttribute('#text', 'aria-invalid'), 'true');
    assert.equal(alice.sent.filter((frame) => frame.includes('custom_event')).length, 0);

    await alice.sendEvent('{"action": "greeting", "number": 12345678901234567890, "rate": 1.50, "big": 1e400}');
    const shown = bob.page.locator('[data-type=custom_event] .payload', { hasText: 'greeting' });
    await shown.waitFor();
    for (const digits of ['12345678901234567890', '1.50', '1e400']) assert.ok((await shown.textContent()).includes(digits), digits);
    assert.equal(await alice.text('#text-error'), '');
    alice.assertNoConsoleErrors();
    bob.assertNoConsoleErrors();
  });

  test('the field formats JSON, starts with an example, and Ctrl + Enter sends', async () => {
    const tab = await openTab();
    await tab.page.check('#mode-event');
    assert.match(await value(tab), /"action": "greeting"/);
    await tab.page.fill('#text', '{"a":[1,2],"n":12345678901234567890}');
    await tab.page.click('#format');
    assert.equal(await value(tab), '{\n  "a": [\n    1,\n    2\n  ],\n  "n": 12345678901234567890\n}');
    await tab.page.focus('#text');
    await tab.page.keyboard.press('Control+Enter');
    await tab.page.locator('.entry.own[data-type=custom_event][data-status=stored]').waitFor();
    tab.assertNoConsoleErrors();
  });
});
