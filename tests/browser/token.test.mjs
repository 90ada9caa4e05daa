// The page and a server that requires tokens: the dialog, what a token grants, and the operator's part.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { Tab, Tokens, eventually, useBrowser } from './support.mjs';

const tokens = new Tokens();
const use = useBrowser(tokens.flags);
after(() => tokens.remove());

const EVERYTHING = ['--subscribe', '*', '--publish', '*'];
const mint = (...grant) => tokens.mint('--user', 'alice', ...grant);

/** Opens the page in a profile of its own. */
async function open(t, query, locale = 'en-US') {
  const context = await use.browser.newContext({ locale });
  t.after(() => context.close());
  return Tab.open(context, use.server.page + query);
}

describe('the dialog', () => {
  test('it opens when a token is missing, shows what one grants, and connects with it', async (t) => {
    const tab = await open(t, '');
    await tab.page.locator('#token-dialog[open]').waitFor();
    assert.match(await tab.text('#token-reason'), /The server needs a valid token.*\(4001\)/);
    assert.equal(await tab.page.locator('#notice').isVisible(), false, 'the reason is shown once');

    await tab.page.fill('#token-text', 'nonsense');
    assert.match(await tab.text('#token-error'), /This is not a token/);
    await tab.page.getByRole('button', { name: 'Use it' }).click();
    await tab.page.locator('#token-dialog[open]').waitFor();

    // People paste more than the token.
    await tab.page.fill('#token-text', `Authorization: Bearer ${mint('--subscribe', 'lobby', '--subscribe', 'ops*', '--publish', 'lobby', '--ttl', '2h')}`);
    const grant = await tab.page.locator('#token-grant').innerText();
    for (const part of ['alice', 'lobby, ops*', '1 h 59 min']) assert.ok(grant.includes(part), grant);
    await tab.page.getByRole('button', { name: 'Use it' }).click();

    await tab.waitForState('connected');
    assert.match(await tab.text('#token-button'), /^alice/);
    await tab.page.locator('#members li', { hasText: 'alice' }).waitFor();
    await tab.say('hello');
    await tab.sees('hello');
    await tab.page.reload();
    await tab.waitForState('connected');
    tab.assertNoConsoleErrors();
  });

  test('it speaks Chinese, and closes without a token', async (t) => {
    const tab = await open(t, '', 'zh-CN');
    await tab.page.locator('#token-dialog[open]').waitFor();
    assert.equal(await tab.text('#token-reason'), '服务器需要有效的令牌（4001）');
    await tab.page.keyboard.press('Escape');
    await tab.page.locator('#notice', { hasText: '服务器需要有效的令牌（4001）。' }).waitFor();
    await tab.page.click('#notice-token');
    await tab.page.locator('#token-dialog[open]').waitFor();
  });
});

for (const [locale, shown] of [
  ['en-US', 'You may not read lobby (4003).'],
  ['zh-CN', '你没有读取 lobby 的权限（4003）。'],
]) {
  test(`a refused room is named, and another one is joined instead (${locale})`, async (t) => {
    const token = mint('--subscribe', 'ops*', '--publish', 'ops');
    const tab = await open(t, `#token=${token}`, locale);
    await tab.page.locator('#notice', { hasText: shown }).waitFor();
    await tab.join('ops');
    await tab.waitForState('connected');
    await tab.say('hello');
    await tab.sees('hello', { room: 'ops' });
    assert.equal(await tab.page.locator('#rooms > li').count(), 1);
    assert.equal(new URL(tab.page.url()).search, '?room=ops');
  });
}

test('a refused room among others is left by one button', async (t) => {
  const tab = await open(t, `?room=ops&room=secret#token=${mint('--subscribe', 'ops', '--publish', 'ops')}`);
  await tab.page.getByRole('button', { name: 'Leave secret and connect' }).click();
  await tab.waitForState('connected');
  await tab.isIn('ops');
  assert.equal(await tab.page.locator('#rooms > li').count(), 1);
});

test('a message that the token does not allow is refused beside its text, which comes back into the field', async (t) => {
  const tab = await open(t, `#token=${mint('--subscribe', '*')}`);
  await tab.waitForState('connected');
  await tab.say('not allowed');
  const row = tab.page.locator('.entry[data-status=failed]');
  await row.filter({ hasText: 'you may not publish to lobby. The text is in the field again' }).waitFor();
  assert.equal(await tab.page.inputValue('#text'), 'not allowed');
  await tab.page.fill('#text', 'still not');
  await tab.page.click('#send');
  await row.filter({ hasText: 'still not' }).waitFor();
  assert.equal(await row.count(), 1, 'the corrected message replaces the refused one');
  await row.locator('.dismiss').click();
  await row.waitFor({ state: 'detached' });
});

test('the page renews an expiring token from its address', async (t) => {
  const short = mint(...EVERYTHING, '--ttl', '5');
  const expiry = Date.now() + 5_000;
  const tab = await open(t, `#token=${short}`);
  await tab.waitForState('connected');
  await tab.page.evaluate(() => {
    globalThis.states = [];
    const state = document.querySelector('#state');
    new MutationObserver(() => globalThis.states.push(state.dataset.state)).observe(state, { attributes: true, attributeFilter: ['data-state'] });
  });
  const long = mint(...EVERYTHING, '--ttl', '1h');
  // `replaceState` fires no `hashchange`, which would make the page reconnect.
  await tab.page.evaluate((token) => history.replaceState(null, '', `#token=${token}`), long);
  await eventually('the end of the first token', () => Date.now() > expiry + 500);
  const states = await tab.page.evaluate('states');
  assert.deepEqual(states.filter((state) => state !== 'connected'), [], 'the connection stays open after its first token expires');
});

describe('an operator', () => {
  /** Opens the operator's part, and two clients of Bob. */
  async function openOperator(t, ...grant) {
    const operator = await open(t, `#token=${tokens.mint('--admin', ...grant)}`);
    const bobs = [];
    for (let n = 0; n < 2; n += 1) bobs.push(await open(t, `?room=ops#token=${tokens.mint('--user', 'bob', ...EVERYTHING)}`));
    for (const bob of bobs) await bob.waitForState('connected');
    await operator.page.bringToFront();
    await operator.page.click('[data-panel=operator]');
    await operator.page.locator('.panel-operator tbody tr', { hasText: 'bob' }).nth(1).waitFor();
    return { operator, bobs };
  }

  test('sees who is connected and the rooms, and closes a client and a user', async (t) => {
    const { operator, bobs } = await openOperator(t, ...EVERYTHING);
    const { page } = operator;
    await page.locator('.panel-operator li', { hasText: 'ops2 members' }).waitFor();
    await page.locator('.panel-operator tbody tr', { hasText: 'bob' }).first().locator('button', { hasText: /^Close$/ }).click();
    await page.locator('.danger[data-confirm]', { hasText: 'Really?' }).click();
    await page.locator('.panel-operator li', { hasText: 'ops1 member' }).waitFor();
    await page.getByRole('button', { name: 'Close all of the user bob' }).click();
    await page.locator('.danger[data-confirm]').click();
    for (const bob of bobs) await bob.waitForState('closed');
    operator.assertNoConsoleErrors();
  });

  test('publishes as the server to a room that it is not in', async (t) => {
    const { operator, bobs } = await openOperator(t, ...EVERYTHING);
    await operator.page.fill('#operator-room', 'ops');
    await operator.page.fill('#operator-text', 'Maintenance at noon');
    await operator.page.locator('.operator-publish button').click();
    await operator.page.locator('.operator-publish [role=status]', { hasText: /Stored at offset \d+/ }).waitFor();
    await bobs[0].sees('Maintenance at noon', { room: 'ops' });
    assert.equal(await bobs[0].text('.entry[data-type=message]:last-child .who'), 'server');
  });

  test('without a right to any room still has its part', async (t) => {
    const operator = await open(t, `#token=${tokens.mint('--admin')}`);
    await operator.page.locator('#notice', { hasText: 'You may not read lobby' }).waitFor();
    await operator.page.click('[data-panel=operator]');
    await operator.page.locator('.panel-operator h3', { hasText: 'Clients' }).waitFor();
    await operator.page.locator('.panel-operator .problem:visible').waitFor({ state: 'detached' });
  });
});

test('without an operator’s token there is no operator’s part', async (t) => {
  const tab = await open(t, `#token=${mint(...EVERYTHING)}`);
  await tab.waitForState('connected');
  assert.equal(await tab.page.locator('[data-panel=operator]').isVisible(), false);
});

test('the lines to copy have the token only if the reader wants them to', async (t) => {
  const token = mint(...EVERYTHING);
  const tab = await open(t, `#token=${token}`);
  await tab.waitForState('connected');
  await tab.page.click('[data-panel=code]');
  const code = () => tab.page.locator('#panel-body').innerText();
  assert.ok(!(await code()).includes(token));
  await tab.page.check('#with-token');
  assert.ok((await code()).includes(`Authorization: Bearer ${token}`));
});
