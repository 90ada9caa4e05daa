// The test page in a real headless browser against the real server.
//
// Needs Node.js 20 or newer and Debian's chromium (or another Chromium at $CHROMIUM). From the top of
// the repository, with the server built:
//
//   mkdir -p target/browser
//   cp tests/browser/package.json tests/browser/package-lock.json target/browser/
//   npm ci --prefix target/browser --ignore-scripts --no-audit --no-fund
//   WSCAST_BIN=target/release/wscast BROWSER_MODULES=target/browser node --test tests/browser/page.test.mjs
//
// These are the default values of both variables.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { Certificate, Server, Tab, openBrowser, openScripted } from './support.mjs';

let browser;
let server;
let context;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
});

after(async () => {
  await browser?.close();
  await server?.kill();
});

beforeEach(async () => {
  context = await browser.newContext({ locale: 'en-US' });
});

afterEach(async () => {
  await context.close();
});

/** Opens a connected tab. */
async function openTab(query = '') {
  const tab = await Tab.open(context, server.page + query);
  await tab.waitForState('connected');
  return tab;
}

test('the page connects with wss when it is served over TLS', async () => {
  const certificate = new Certificate();
  const tlsServer = await Server.start(certificate.flags);
  // The certificate is self-signed.
  const trusting = await browser.newContext({ locale: 'en-US', ignoreHTTPSErrors: true });
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
    assert.equal(await alice.page.inputValue('#message-text'), '', 'the field is empty again');
  });

  test('the page shows the client id and the welcome text', async () => {
    const alice = await openTab();

    assert.match(await alice.text('#client'), /^c[0-9a-f]+-\d+$/);
    assert.notEqual(await alice.text('#welcome'), '');
    await alice.say('me');
    await alice.sees('me');
    assert.equal(await alice.text('.entry[data-type=message] .who'), 'you');
  });

  test('the page rejects a custom event that is not JSON, and sends one that is', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.sendEvent('{\n  "action": "greeting",\n}');
    assert.match(await alice.text('#event-error'), /^This is not JSON: .*line 3 column 1/);
    assert.equal(await alice.page.getAttribute('#event-text', 'aria-invalid'), 'true');
    assert.equal(alice.sent.filter((frame) => frame.includes('custom_event')).length, 0);

    await alice.sendEvent('{"action": "greeting", "number": 12345678901234567890}');
    await bob.sees('"action":"greeting"', { type: 'custom_event' });
    await bob.sees('12345678901234567890', { type: 'custom_event' });
    assert.equal(await alice.text('#event-error'), '');
    assert.equal(await bob.page.locator('[data-type=custom_event]').count(), 1);
    alice.assertNoConsoleErrors();
    bob.assertNoConsoleErrors();
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
  test('members receive the messages of a room until they leave it', async () => {
    const alice = await openTab();
    const bob = await openTab();
    const carol = await openTab();

    await alice.join('ops');
    await bob.join('ops');
    await alice.isIn('ops', { members: 2 });

    await alice.say('only for ops', { to: 'ops' });
    await bob.sees('only for ops', { room: 'ops' });

    await bob.leave('ops');
    await alice.isIn('ops', { members: 1 });
    await alice.say('bob is gone', { to: 'ops' });
    await alice.sees('bob is gone', { room: 'ops' });

    await alice.say('for all', { to: 'lobby' });
    for (const tab of [alice, bob, carol]) await tab.sees('for all', { room: 'lobby' });
    assert.equal(await bob.count('bob is gone'), 0);
    assert.equal(await carol.count('only for ops'), 0);
    for (const tab of [alice, bob, carol]) tab.assertNoConsoleErrors();
  });

  test('the page keeps its rooms in its address', async () => {
    const alice = await openTab('?room=red&room=%E8%93%9D');
    await alice.isIn('red');
    await alice.isIn('蓝');

    await alice.join('green');
    await alice.leave('red');
    await alice.page.reload();

    await alice.waitForState('connected');
    await alice.isIn('green');
    await alice.isIn('蓝');
    assert.equal(await alice.page.locator('#rooms > li').count(), 2);
    alice.assertNoConsoleErrors();
  });

  test('the page joins no room if its address has only invalid ones', async () => {
    const alice = await openTab('?room=a%20b');
    await alice.sees('“a b”', { type: 'error' });
    await alice.page.locator('#rooms-empty').waitFor();
    assert.equal(await alice.page.locator('#rooms > li, #rooms-hint:visible').count(), 0);
    await alice.join('ops');
    assert.equal(await alice.page.locator('#rooms > li').count(), 1);
    assert.equal(new URL(alice.page.url()).search, '?room=ops');
    await alice.page.locator('#rooms-hint').waitFor();
    alice.assertNoConsoleErrors();
  });

  test('the page explains an invalid room name', async () => {
    const alice = await openTab('?room=a/b&room=ops');
    await alice.isIn('ops');
    await alice.sees('“a/b”', { type: 'error' });

    await alice.page.fill('#room-name', 'two words');
    await alice.page.click('#join-room');
    await alice.sees('“two words” is not a room name', { type: 'error' });
    assert.equal(await alice.count('“two words”', { type: 'error' }), 1);
    assert.equal(await alice.text('.entry[data-type=error]:last-child .tag'), 'invalid_room');
    alice.assertNoConsoleErrors();
  });
});

describe('the page', () => {
  test('the hint to open a second tab is shown until the first message', async () => {
    const alice = await openTab();
    await alice.sees('Connected as', { type: 'welcome' });
    assert.match(await alice.text('#log-empty:visible'), /second tab/);
    await alice.say('hello');
    await alice.sees('hello');
    assert.equal(await alice.page.locator('#log-empty').isVisible(), false);
    alice.assertNoConsoleErrors();
  });

  test('the page uses the reader’s language', async () => {
    const english = await openTab();
    assert.equal(await english.page.getAttribute('html', 'lang'), 'en');
    assert.equal(await english.text('#send-message'), 'Send');
    assert.equal(await english.text('#state'), 'Connected');

    const reader = await browser.newContext({ locale: 'zh-CN' });
    try {
      const chinese = await Tab.open(reader, server.page);
      await chinese.waitForState('connected');
      assert.equal(await chinese.page.getAttribute('html', 'lang'), 'zh-CN');
      assert.equal(await chinese.text('#send-message'), '发送');
      assert.equal(await chinese.text('#state'), '已连接');
      await chinese.sendEvent('{"a": }');
      assert.match(await chinese.text('#event-error'), /^JSON 格式错误：/);
      const labels = await chinese.page.evaluate(visibleWords);
      // Names and the word JSON stay as they are.
      assert.deepEqual(labels.filter((label) => /[A-Za-z]{2}/.test(label) && !/[\u4e00-\u9fff]/.test(label)), ['wscast', 'lobby', 'JSON']);
      chinese.assertNoConsoleErrors();
    } finally {
      await reader.close();
    }
  });

  test('the page keeps to its strict content security policy', async () => {
    const page = await context.newPage();
    const alice = new Tab(page);
    const response = await page.goto(server.page);
    const policy = response.headers()['content-security-policy'];

    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe/);
    await alice.waitForState('connected');
    await alice.join('ops');
    await alice.say('hello');
    await alice.sees('hello');
    await alice.leave('ops');
    await page.click('#clear-log');
    assert.equal(await page.locator('#log .entry').count(), 0);
    alice.assertNoConsoleErrors();
  });

  test('the page fits a narrow phone', async () => {
    const alice = await openTab();
    await alice.page.setViewportSize({ width: 360, height: 740 });
    const name = 'a-room-with-a-name-that-is-as-long-as-the-server-lets-it-be-64ch'.slice(0, 64);
    await alice.join(name);
    await alice.say('W'.repeat(300));
    await alice.sendEvent(JSON.stringify({ key: 'W'.repeat(300) }));
    await alice.sees('WWW', { type: 'custom_event' });

    const width = await alice.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `the page is ${width} px wide`);
    const log = await alice.page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.getElementById('log');
      return scrollWidth - clientWidth;
    });
    assert.equal(log, 0, 'the log does not scroll sideways');
    alice.assertNoConsoleErrors();
  });

  test('the page can be used with the keyboard alone', async () => {
    const alice = await openTab();
    const { keyboard } = alice.page;

    await alice.page.focus('#message-text');
    await keyboard.type('typed');
    await keyboard.press('Enter');
    await alice.sees('typed');

    await alice.page.focus('#event-text');
    await keyboard.press('Control+Enter');
    await alice.sees('greeting', { type: 'custom_event' });

    await alice.page.focus('#room-name');
    await keyboard.type('ops');
    await keyboard.press('Enter');
    await alice.isIn('ops');
    await alice.page.focus('#rooms [data-room=ops] button');
    await keyboard.press('Enter');
    await alice.page.locator('#rooms [data-room=ops]').waitFor({ state: 'detached' });
    assert.equal(await alice.page.evaluate('document.activeElement.id'), 'room-name');
    alice.assertNoConsoleErrors();
  });

  test('the log keeps the last 500 entries', async () => {
    const { tab, sockets } = await openScripted(context, server);
    for (let n = 1; n <= 700; n += 1) {
      sockets[0].send(JSON.stringify({ type: 'message', payload: `number ${n}`, room: 'lobby', offset: n, from: 'c0-2', ts: 0 }));
    }
    await tab.sees('number 700');
    assert.equal(await tab.page.locator('#log .entry').count(), 500);
    assert.equal(await tab.text('.entry:first-child .payload'), 'number 201');
    tab.assertNoConsoleErrors();
  });
});

/** Runs in the page. Returns the visible texts and the labels for screen readers. */
function visibleWords() {
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement, data } = walker.currentNode;
    if (data.trim() && parentElement.checkVisibility() && !parentElement.closest('#welcome, #client, #log, textarea')) texts.push(data.trim());
  }
  for (const node of document.querySelectorAll('[placeholder], [aria-label]')) {
    texts.push(...['placeholder', 'aria-label'].map((name) => node.getAttribute(name)).filter(Boolean));
  }
  return texts;
}
