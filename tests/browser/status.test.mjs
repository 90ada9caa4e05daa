// What the page shows of the connection and the server: figures, charts, raw frames, being offline.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { eventually, useBrowser } from './support.mjs';

const use = useBrowser();

test('the figures show what the server reports and how long a ping takes', async () => {
  const tab = await use.openTab();
  await tab.page.locator('#figure-clients', { hasText: /^1$/ }).waitFor();
  await tab.page.locator('#figure-latency', { hasText: / m?s$/ }).waitFor();
  await use.publish('lobby', 'one', 'two', 'three');
  await tab.page.locator('#figure-rate', { hasText: /^[\d.]*[1-9]/ }).waitFor();
  tab.assertNoConsoleErrors();
});

test('the charts draw each figure, and a screen reader hears their values', async () => {
  const tab = await use.openTab();
  await tab.page.click('[data-panel=charts]');
  assert.equal(await tab.page.locator('.chart').count(), 5);
  const clients = tab.page.locator('.chart svg').first();
  await eventually('the second value', async () => /L/.test(await clients.locator('.chart-line').getAttribute('d') ?? ''));
  assert.equal(await clients.getAttribute('aria-label'), 'Connected clients: 1, highest 1');
  tab.assertNoConsoleErrors();
});

test('the frames of both directions are shown as they travel, without token and session', async () => {
  const tab = await use.openTab('#token=secret.to.keep');
  await tab.say('look at me');
  await tab.sees('look at me');
  await tab.page.click('[data-panel=frames]');
  const sent = tab.page.locator('.frame.out', { hasText: '"payload":"look at me"' });
  await sent.waitFor();
  assert.ok(tab.sent.includes(await sent.locator('code').textContent()), 'the frame is shown as it was sent');
  await tab.page.locator('.frame.in', { hasText: '"type":"ack"' }).waitFor();
  const opened = await tab.page.evaluate(() => {
    document.querySelector('.frames').scrollTop = 0;
    return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(document.querySelector('.frame').textContent))));
  });
  assert.match(opened, /ws:.*session=…&token=…/);
  await tab.page.locator('.panel-frames').getByRole('button', { name: 'Clear' }).click();
  await sent.waitFor({ state: 'detached' });
  tab.assertNoConsoleErrors();
});

test('being offline is said at once, and a connection that still works is no outage', async () => {
  const tab = await use.openTab();
  await use.context.setOffline(true);
  // A server on the same computer is reachable without a network, and its reply ends the doubt.
  await tab.page.locator('#notice', { hasText: 'offline' }).waitFor();
  await use.context.setOffline(false);
  await tab.page.locator('#notice').waitFor({ state: 'hidden' });
  await tab.waitForState('connected');
});

test('the panel and the room of the last visit are open again', async () => {
  const tab = await use.openTab();
  await tab.page.click('[data-panel=code]');
  await tab.page.reload();
  await tab.page.locator('#panel-title', { hasText: 'Connect from code' }).waitFor();
  await tab.page.locator('pre', { hasText: 'curl -N' }).waitFor();
  await tab.page.locator('.links', { hasText: /wscast \d/ }).waitFor();
});

test('the page links to the documentation only if the server has it', async () => {
  const tab = await use.openTab();
  const link = tab.page.locator('.links a[href=docs]');
  await tab.page.click('[data-panel=code]');
  await link.waitFor();
  await tab.page.route('**/stats', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), docs: false } });
  });
  await tab.page.reload();
  await tab.page.locator('.links', { hasText: /wscast \d/ }).waitFor();
  await link.waitFor({ state: 'hidden' });
});

test('a message of a hidden tab is counted in its title', async () => {
  const tab = await use.openTab('?room=hidden');
  await tab.isIn('hidden');
  await tab.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await use.publish('hidden', 'psst');
  await eventually('the title', async () => /^\(1\) hidden/.test(await tab.page.title()));
  await tab.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { value: 'visible', configurable: true });
    document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
  });
  await eventually('the title', async () => (await tab.page.title()) === 'hidden · wscast');
});
