// What a person does with the page: messages, rooms, language, theme.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Certificate, Server, Tab, useBrowser } from './support.mjs';

const use = useBrowser();
const openTab = (query) => use.openTab(query);

test('the page connects with wss when it is served over TLS', async () => {
  const certificate = new Certificate();
  const tlsServer = await Server.start(certificate.flags);
  // The certificate is self-signed.
  const trusting = await use.browser.newContext({ locale: 'en-US', ignoreHTTPSErrors: true });
  try {
    const [alice, bob] = [await Tab.open(trusting, tlsServer.page), await Tab.open(trusting, tlsServer.page)];
    for (const tab of [alice, bob]) await tab.waitForState('connected');

    await alice.say('encrypted');

    await bob.sees('encrypted', { room: 'lobby' });
    assert.match(bob.addresses[0], /^wss:/);
    bob.assertNoConsoleErrors();
  } finally {
    await trusting.close();
    await tlsServer.kill();
    certificate.remove();
  }
});

describe('messages', () => {
  test('a message is shown once in every tab', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.say('hello');
    await alice.say('that was all');

    for (const tab of [alice, bob]) {
      await tab.sees('that was all', { room: 'lobby' });
      assert.equal(await tab.count('hello'), 1);
      tab.assertNoConsoleErrors();
    }
    assert.equal(await alice.page.inputValue('#text'), '', 'the field is empty again');
  });

  test('own messages are marked, and the members and the welcome text are shown', async () => {
    const alice = await openTab();

    assert.equal(await alice.text('#welcome'), 'Welcome to wscast');
    await alice.page.locator('#members li', { hasText: /^c[0-9a-f]+-\d+you$/ }).waitFor();
    await alice.say('me');
    await alice.page.locator('.entry.own[data-status=stored]', { hasText: 'me' }).waitFor();
    assert.equal(await alice.text('.entry.own .who'), 'you');
  });

  test('the page shows markup as text', async () => {
    const mallory = await openTab();
    const bob = await openTab();
    const image = '<img src=x onerror="window.harmed = true">';
    const script = '<script>window.harmed = true</script>';

    await mallory.say(image);
    await mallory.say(script);
    await mallory.sendEvent(JSON.stringify({ [image]: script }));

    for (const tab of [mallory, bob]) {
      await tab.sees(image);
      await tab.sees(script);
      await tab.sees('window.harmed', { type: 'custom_event' });
      assert.equal(await tab.page.locator('#log img, #log script').count(), 0);
      assert.equal(await tab.page.evaluate('window.harmed'), undefined);
      tab.assertNoConsoleErrors();
    }
  });
});

describe('rooms', () => {
  test('each room has its own view, and members receive its messages until they leave it', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.join('ops');
    await bob.join('ops');
    await alice.isIn('ops', { members: 2 });
    assert.equal(await alice.text('#room-title'), 'ops');

    await alice.say('only for ops', { to: 'ops' });
    await bob.sees('only for ops', { room: 'ops' });
    await bob.select('lobby');
    assert.equal(await bob.count('only for ops'), 0, 'the view of the lobby has only its messages');

    await bob.leave('ops');
    await alice.isIn('ops', { members: 1 });
    await alice.say('bob is gone', { to: 'ops' });
    await alice.sees('bob is gone', { room: 'ops' });
    await alice.say('for all', { to: 'lobby' });
    for (const tab of [alice, bob]) await tab.sees('for all', { room: 'lobby' });
    for (const tab of [alice, bob]) tab.assertNoConsoleErrors();
  });

  test('the page keeps its rooms in its address, and the selected one', async () => {
    const alice = await openTab('?room=red&room=%E8%93%9D');
    await alice.isIn('red');
    await alice.isIn('蓝');

    await alice.join('green');
    await alice.leave('red');
    await alice.select('蓝');
    await alice.page.reload();

    await alice.waitForState('connected');
    await alice.isIn('green');
    await alice.isIn('蓝');
    assert.equal(await alice.page.locator('#rooms > li').count(), 2);
    assert.equal(await alice.text('#room-title'), '蓝');
    alice.assertNoConsoleErrors();

    const later = await openTab();
    await later.isIn('green');
    await later.isIn('蓝');
    assert.equal(await later.page.locator('#rooms > li').count(), 2, 'the next visit has the rooms of the last');
  });

  test('the page joins no room if its address has only invalid ones', async () => {
    const alice = await openTab('?room=a%20b');
    assert.match(await alice.text('#room-error'), /has the room “a b”, which is not a room name/);
    await alice.page.locator('#rooms-empty').waitFor();
    assert.equal(await alice.page.locator('#rooms > li').count(), 0);
    assert.ok(await alice.page.isDisabled('#send'));
    await alice.join('ops');
    assert.equal(new URL(alice.page.url()).search, '?room=ops');
    alice.assertNoConsoleErrors();
  });

  test('an invalid room name is explained beside its field, before the server sees it', async () => {
    const alice = await openTab();
    await alice.page.fill('#room-name', 'two words');
    await alice.page.click('#join-room');
    assert.match(await alice.text('#room-error'), /“two words” is not a room name/);
    assert.equal(await alice.page.getAttribute('#room-name', 'aria-invalid'), 'true');
    assert.ok(!alice.sent.some((frame) => frame.includes('two words')));
    alice.assertNoConsoleErrors();
  });
});

describe('the reader’s choices', () => {
  test('the language is the browser’s, and a switch changes all texts at once and is kept', async () => {
    const english = await openTab();
    assert.equal(await english.page.getAttribute('html', 'lang'), 'en');
    assert.equal(await english.text('#send'), 'Send');
    await english.join('ops');
    await english.sees('You joined ops', { type: 'joined' });

    await english.page.click('#language');
    assert.equal(await english.page.getAttribute('html', 'lang'), 'zh-CN');
    assert.equal(await english.text('#send'), '发送');
    await english.sees('你已加入 ops', { type: 'joined' });
    await english.page.reload();
    await english.waitForState('connected');
    assert.equal(await english.text('#state'), '已连接');
    english.assertNoConsoleErrors();
  });

  test('in Chinese no English text is left', async () => {
    const reader = await use.browser.newContext({ locale: 'zh-CN' });
    try {
      const chinese = await Tab.open(reader, use.server.page);
      await chinese.waitForState('connected');
      await chinese.sendEvent('{"a": }');
      assert.match(await chinese.text('#text-error'), /^JSON 格式错误：/);
      for (const panel of ['code', 'charts', 'frames']) {
        await chinese.page.click(`[data-panel=${panel}]`);
        const labels = await chinese.page.evaluate(visibleWords);
        const english = labels.filter((label) => /[A-Za-z]{3}/.test(label) && !/[\u4e00-\u9fff]/.test(label));
        // Names stay as they are.
        assert.deepEqual(english.filter((label) => !/^(wscast.*|lobby|English|Switch to English|JavaScript|Python|c[\da-f]+-\d+)$/.test(label)), []);
      }
      await chinese.page.click('#token-button');
      assert.equal(await chinese.text('#token-title'), '令牌');
      chinese.assertNoConsoleErrors();
    } finally {
      await reader.close();
    }
  });

  test('the theme follows the system until the reader chooses one, which is kept', async () => {
    const alice = await openTab();
    const ground = () => alice.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await alice.page.emulateMedia({ colorScheme: 'dark' });
    const dark = await ground();
    assert.notEqual(light, dark);
    await alice.page.click('#theme');
    assert.equal(await ground(), light);
    await alice.page.reload();
    assert.equal(await ground(), light);
    await alice.page.click('#theme');
    await alice.page.click('#theme');
    assert.equal(await ground(), dark, 'the third click returns to the system’s theme');
  });

  test('the hint for newcomers is there beside history, until they have seen it work', async () => {
    await use.publish('lobby', 'older');
    const alice = await openTab();
    await alice.sees('older');
    await alice.page.locator('#newcomer', { hasText: 'second tab' }).waitFor();
    const [bob] = await Promise.all([use.context.waitForEvent('page'), alice.page.click('#second-tab')]);
    await bob.locator('#state[data-state=connected]').waitFor();
    await alice.isIn('lobby', { members: 2 });
    await alice.say('hello there');
    await bob.bringToFront();
    await bob.fill('#text', 'hello back');
    await bob.click('#send');
    await alice.sees('hello back');
    assert.equal(await alice.page.locator('#newcomer').isVisible(), false);
    await alice.page.reload();
    await alice.waitForState('connected');
    assert.equal(await alice.page.locator('#newcomer').isVisible(), false);
  });
});

test('the page keeps to its strict content security policy and stores no token', async () => {
  const page = await use.context.newPage();
  const alice = new Tab(page);
  const response = await page.goto(`${use.server.page}#token=a.b.c`);
  const policy = response.headers()['content-security-policy'];

  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  await alice.waitForState('connected');
  await alice.join('ops');
  await alice.say('hello');
  await alice.sees('hello');
  await page.click('#got-it');
  for (const panel of ['code', 'charts', 'frames']) await page.click(`[data-panel=${panel}]`);
  await alice.leave('ops');
  await page.click('#clear-log');
  await page.locator('#log .entry').first().waitFor({ state: 'detached' });
  alice.assertNoConsoleErrors();
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.doesNotMatch(stored, /a\.b\.c/);
});

/** Runs in the page. Returns the visible texts and the labels for screen readers. */
function visibleWords() {
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement, data } = walker.currentNode;
    if (data.trim() && parentElement.checkVisibility() && !parentElement.closest('#welcome, #log, textarea, pre, .frames')) texts.push(data.trim());
  }
  for (const node of document.querySelectorAll('[placeholder], [aria-label]')) {
    if (!node.closest('.frames, .sample')) texts.push(...['placeholder', 'aria-label'].map((name) => node.getAttribute(name)).filter(Boolean));
  }
  return texts;
}
