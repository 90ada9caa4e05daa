// The test page and a server that requires tokens: the page takes the token from its own address. Runs like
// page.test.mjs.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { SERVER, Server, Tab, eventually, openBrowser } from './support.mjs';

const folder = mkdtempSync(join(tmpdir(), 'wscast-'));
const key = join(folder, 'key');
let browser;
let server;

before(async () => {
  writeFileSync(key, 'kq1x9Lw7Zr3Vt5Yb8Nc2Md4Ge6Hj0Fp-Qs');
  browser = await openBrowser();
  server = await Server.start(['--secret-key-file', key]);
});

after(async () => {
  await browser?.close();
  await server?.kill();
  rmSync(folder, { recursive: true });
});

function mint(...grant) {
  const args = ['token', '--secret-key-file', key, '--user', 'alice', ...grant];
  return execFileSync(SERVER, args, { encoding: 'utf8' }).trim();
}

for (const [locale, hint] of [['en-US', '#token='], ['zh-CN', '令牌']]) {
  test(`the page explains that a token is missing, and connects once it has one (${locale})`, async () => {
    const context = await browser.newContext({ locale });
    const tab = await Tab.open(context, server.page);
    await tab.waitForState('closed');
    const entry = tab.page.locator('#log .entry', { hasText: hint }).first();
    await entry.waitFor();
    const token = mint('--subscribe', '*', '--publish', '*');
    await tab.page.evaluate((token) => { location.hash = `token=${token}`; }, token);
    await tab.waitForState('connected');
    await tab.page.fill('#message-text', 'hello');
    await tab.page.click('#send-message');
    await tab.page.locator('#log .entry[data-type=message] .payload', { hasText: 'hello' }).waitFor();
    await context.close();
  });
}

for (const [locale, shown] of [
  ['en-US', 'Closed, will not reconnect: forbidden: you may not read lobby (4003)'],
  ['zh-CN', '连接已关闭，不再重连：没有权限，服务器的说明是“you may not read lobby”（4003）'],
]) {
  test(`the page joins a room that the token grants after the lobby was refused (${locale})`, async () => {
    const context = await browser.newContext({ locale });
    const token = mint('--subscribe', 'ops*', '--publish', 'ops');
    const tab = await Tab.open(context, `${server.page}#token=${token}`);
    await tab.waitForState('closed');
    await tab.sees(shown, { type: 'disconnected' });
    await tab.page.locator('#rooms-empty').waitFor();
    await tab.join('ops');
    await tab.waitForState('connected');
    await tab.say('hello');
    await tab.sees('hello', { room: 'ops' });
    assert.equal(await tab.page.locator('#rooms > li').count(), 1);
    assert.equal(new URL(tab.page.url()).search, '?room=ops');

    const again = await Tab.open(context, `${server.page}?room=ops#token=${token}`);
    await again.waitForState('connected');
    await again.isIn('ops');
    await context.close();
  });
}

test('the page renews an expiring token from its address', async () => {
  const context = await browser.newContext({ locale: 'en-US' });
  const short = mint('--subscribe', '*', '--publish', '*', '--ttl', '6');
  const expiry = Date.now() + 6_000;
  const tab = await Tab.open(context, `${server.page}#token=${short}`);
  await tab.waitForState('connected');
  await tab.page.evaluate(() => {
    globalThis.states = [];
    const state = document.querySelector('#state');
    new MutationObserver(() => globalThis.states.push(state.dataset.state)).observe(state, { attributes: true });
  });
  const long = mint('--subscribe', '*', '--publish', '*', '--ttl', '1h');
  // `replaceState` fires no `hashchange`, which would make the page reconnect.
  await tab.page.evaluate((token) => history.replaceState(null, '', `#token=${token}`), long);
  await eventually('the end of the first token', () => Date.now() > expiry + 1_000);
  const states = await tab.page.evaluate('states');
  assert.deepEqual(states, [], 'the connection stays open after its first token expires');
  await tab.waitForState('connected');
  await context.close();
});
