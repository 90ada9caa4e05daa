// The page for everyone: no serious finding of axe-core in any state, the keyboard alone, a screen reader, 360 px.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';

import { Tab, Tokens, Server, requireModule, useBrowser } from './support.mjs';

const use = useBrowser();
const { source: AXE } = requireModule('axe-core');

const LONG_ROOM = 'a-room-with-a-name-that-is-as-long-as-the-server-lets-it-be-64ch'.slice(0, 64);

/** Returns the serious and critical findings in the present state of the page. */
async function findings(page, state) {
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
  return violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${state}: ${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`);
}

/** Asserts that neither the page nor the log scrolls sideways, and that the field is on the screen. */
async function assertFits(page, width, state) {
  const { pageWidth, logExcess, field, height } = await page.evaluate(() => {
    const log = document.getElementById('log');
    const { top, bottom, width } = document.getElementById('send').getBoundingClientRect();
    return { pageWidth: document.documentElement.scrollWidth, logExcess: log.scrollWidth - log.clientWidth, field: { top, bottom, width }, height: innerHeight };
  });
  assert.ok(pageWidth <= width, `${state}: the page is ${pageWidth} px wide`);
  assert.equal(logExcess, 0, `${state}: the log scrolls sideways`);
  assert.ok(field.width > 0 && field.top > 0 && field.bottom <= height, `${state}: the button to send is on the screen`);
}

for (const [locale, width, colorScheme] of [
  ['en-US', 1280, 'light'], ['zh-CN', 1280, 'dark'], ['zh-CN', 360, 'light'], ['en-US', 360, 'dark'],
]) {
  test(`every state is accessible and fits (${locale}, ${width} px, ${colorScheme})`, async (t) => {
    const context = await use.browser.newContext({ locale, colorScheme, viewport: { width, height: width === 360 ? 640 : 720 }, bypassCSP: true });
    t.after(() => context.close());
    await context.addInitScript(AXE);
    const tab = await Tab.open(context, use.server.page);
    const { page } = tab;
    await tab.waitForState('connected');
    const found = [];
    const look = async (state) => {
      found.push(...await findings(page, state));
      await assertFits(page, width, state);
    };

    await page.locator('#newcomer').waitFor();
    await look('first visit');
    await page.click('#got-it');
    await tab.join(LONG_ROOM);
    await use.publish(LONG_ROOM, 'W'.repeat(900), { key: 'W'.repeat(300) });
    await tab.say('hello');
    await page.locator('.entry.own[data-status=stored]').waitFor();
    await look('messages');
    await tab.sendEvent('{"a": }');
    await look('invalid event');
    await tab.showRooms();
    await page.fill('#room-name', 'a b');
    await page.click('#join-room');
    found.push(...await findings(page, 'rooms'));
    if (width === 360) await page.click('#show-rooms');
    for (const panel of ['code', 'charts', 'frames']) {
      await page.click(`[data-panel=${panel}]`);
      found.push(...await findings(page, panel));
    }
    await page.click('#panel-close');
    await page.click('#token-button');
    found.push(...await findings(page, 'token'));
    assert.deepEqual(found, []);
  });
}

test('the operator’s part and a notice are accessible', async (t) => {
  const tokens = new Tokens();
  const server = await Server.start(tokens.flags);
  const context = await use.browser.newContext({ locale: 'en-US', bypassCSP: true });
  t.after(async () => {
    await context.close();
    await server.kill();
    tokens.remove();
  });
  await context.addInitScript(AXE);
  const tab = await Tab.open(context, `${server.page}?room=a&room=b#token=${tokens.mint('--admin', '--user', 'olga', '--subscribe', 'a', '--publish', 'a')}`);
  await tab.waitForState('closed');
  const found = await findings(tab.page, 'refused room');
  await tab.page.click('#leave-refused');
  await tab.waitForState('connected');
  await tab.page.click('[data-panel=operator]');
  await tab.page.locator('.panel-operator tbody tr').waitFor();
  found.push(...await findings(tab.page, 'operator'));
  assert.deepEqual(found, []);
});

describe('the keyboard alone', () => {
  test('reaches every control in a sensible order, and none is a trap', async () => {
    const tab = await use.openTab();
    await tab.page.click('#got-it');
    await tab.page.focus('.skip');
    const order = ['skip'];
    for (let n = 0; n < 40; n += 1) {
      await tab.page.keyboard.press('Tab');
      const name = await tab.page.evaluate(() => {
        const { activeElement: node } = document;
        return node === document.body ? '' : node.id || node.dataset.panel || node.className;
      });
      if (name === '') break;
      order.push(name);
    }
    assert.deepEqual(order, [
      'skip', 'token-button', 'code', 'charts', 'frames', 'language', 'theme', 'room-open', 'quiet leave', 'room-name', 'join-room',
      'filter', 'pause', 'copy-log', 'export-log', 'clear-log', 'log', 'mode-message', 'text', 'send',
    ]);
  });

  test('sends, goes through messages, opens one, joins and leaves rooms, and uses the panels and the dialog', async () => {
    const tab = await use.openTab('?room=keys');
    const { page } = tab;
    const { keyboard } = page;
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
    await use.publish('keys', 'short', Array.from({ length: 60 }, (_, n) => `line ${n}`).join('\n'), 'last');
    await tab.sees('last');

    await page.focus('#log');
    await keyboard.press('ArrowUp');
    await keyboard.press('ArrowUp');
    assert.match(await page.evaluate(() => document.activeElement.textContent), /line 0/);
    await keyboard.press('Enter');
    await page.locator('.entry', { hasText: 'line 59' }).waitFor();
    await keyboard.press('Tab');
    assert.match(await page.evaluate(() => document.activeElement.textContent), /Show less/);
    await page.focus('#log');
    await keyboard.press('End');

    await page.focus('#text');
    await keyboard.type('typed');
    await keyboard.press('Enter');
    await page.locator('.entry.own', { hasText: 'typed' }).waitFor();

    await page.focus('#room-name');
    await keyboard.type('ops');
    await keyboard.press('Enter');
    await tab.isIn('ops');
    await page.focus('#rooms [data-room=ops] .leave');
    await keyboard.press('Enter');
    await page.locator('#rooms [data-room=ops]').waitFor({ state: 'detached' });
    assert.equal(await focused(), 'room-name');

    await page.focus('[data-panel=code]');
    await keyboard.press('Enter');
    assert.equal(await focused(), 'panel-title');
    await keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.panel), 'code');

    await page.focus('#token-button');
    await keyboard.press('Enter');
    assert.equal(await focused(), 'token-text');
    await keyboard.press('Escape');
    assert.equal(await focused(), 'token-button');
    tab.assertNoConsoleErrors();
  });
});

test('a screen reader hears of new messages in the room, not of every redrawn row', async () => {
  const tab = await use.openTab('?room=heard');
  await tab.isIn('heard');
  await use.publish('heard', 'listen');
  await tab.page.locator('#announcer', { hasText: /^c[\da-f]+-\d+: listen$/ }).waitFor({ state: 'attached' });
  assert.equal(await tab.page.locator('#log[aria-live], #log [aria-live], #log[role=log]').count(), 0);
});

test('the chosen words name the same things in both languages', () => {
  const keys = (file) => [...readFileSync(new URL(`../../assets/page/words/${file}.js`, import.meta.url), 'utf8').matchAll(/^ +(\w+):/gm)].map(([, key]) => key);
  assert.deepEqual(keys('chinese'), keys('english'));
});
