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
// Both variables have those values when they are not set.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { Certificate, Server, Tab, eventually, openBrowser } from './support.mjs';

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

/** A tab that is connected. */
async function openTab(query = '') {
  const tab = await Tab.open(context, server.page + query);
  await tab.is('connected');
  return tab;
}

/** What the browser itself reports when the server is gone; the page cannot keep it from doing so. */
const SERVER_GONE = /^WebSocket connection to .* failed/;

test('over TLS the page connects with wss, and its neighbour sees what it says', async () => {
  const certificate = new Certificate();
  const sealed = await Server.start(certificate.flags);
  // Nobody has signed the certificate but itself.
  const trusting = await browser.newContext({ locale: 'en-US', ignoreHTTPSErrors: true });
  try {
    const [alice, bob] = [await Tab.open(trusting, sealed.page), await Tab.open(trusting, sealed.page)];
    for (const tab of [alice, bob]) await tab.is('connected');

    await alice.say('sealed');

    await bob.sees('sealed', { room: 'lobby' });
    assert.match(bob.addresses[0], /^wss:/);
    bob.isQuiet();
  } finally {
    await trusting.close();
    await sealed.kill();
    certificate.remove();
  }
});

describe('talking', () => {
  test('what one tab says, both see, once', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.say('hello');
    await alice.say('that was all');

    for (const tab of [alice, bob]) {
      await tab.sees('that was all', { room: 'lobby' });
      assert.equal(await tab.count('hello'), 1);
      tab.isQuiet();
    }
    assert.equal(await alice.page.inputValue('#message-text'), '', 'the field is ready for the next message');
  });

  test('the page says who we are and what the server greets with', async () => {
    const alice = await openTab();

    assert.match(await alice.text('#client'), /^c[0-9a-f]+-\d+$/);
    assert.notEqual(await alice.text('#welcome'), '');
    await alice.say('me');
    await alice.sees('me');
    assert.equal(await alice.text('.entry[data-type=message] .who'), 'you');
  });

  test('a custom event that is no JSON is explained and not sent; one that is arrives', async () => {
    const alice = await openTab();
    const bob = await openTab();

    await alice.sendEvent('{\n  "action": "greeting",\n}');
    assert.equal(
      await alice.text('#event-error'),
      'Line 3, column 1: expected a key in double quotes, but found }',
    );
    assert.equal(alice.sent.filter((frame) => frame.includes('custom_event')).length, 0);

    await alice.sendEvent('{"action": "greeting", "number": 12345678901234567890}');
    await bob.sees('"action":"greeting"', { type: 'custom_event' });
    await bob.sees('12345678901234567890', { type: 'custom_event' });
    assert.equal(await alice.text('#event-error'), '');
    assert.equal(await bob.page.locator('[data-type=custom_event]').count(), 1);
    alice.isQuiet();
    bob.isQuiet();
  });

  test('each way to get JSON wrong is named with its place', async () => {
    const alice = await openTab();
    const mistakes = [
      ['', 'Line 1, column 1: expected a value, but the text ends'],
      ["{'a': 1}", "Line 1, column 2: expected a key in double quotes, but found '"],
      ['{"a" 1}', 'Line 1, column 6: expected a colon after the key, but found 1'],
      ['{"a": 1 "b": 2}', 'Line 1, column 9: expected a comma or }, but found "'],
      ['[1, 2', 'Line 1, column 6: expected a comma or ], but the text ends'],
      ['[\n  True\n]', 'Line 2, column 3: expected a value, but found T'],
      ['{} {}', 'Line 1, column 4: expected nothing more, but found {'],
      ['["😀", x]', 'Line 1, column 7: expected a value, but found x'],
      ['{"a": "b}', 'Line 1, column 7: this string has no closing quote'],
      ['[007]', 'Line 1, column 2: this is not a JSON number'],
    ];
    for (const [text, explanation] of mistakes) {
      await alice.sendEvent(text);
      assert.equal(await alice.text('#event-error'), explanation, text);
    }
    for (const [text, explanation] of [['["a\nb"]', /line break/], ['["\\x"]', /backslash/]]) {
      await alice.sendEvent(text);
      assert.match(await alice.text('#event-error'), explanation, text);
    }
    assert.equal(alice.sent.filter((frame) => frame.includes('custom_event')).length, 0);
    alice.isQuiet();
  });

  test('markup is shown as the text it is', async () => {
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
      tab.isQuiet();
    }
  });
});

describe('rooms', () => {
  test('a room is heard by those who joined it, until they leave', async () => {
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
    for (const tab of [alice, bob, carol]) tab.isQuiet();
  });

  test('the address names the rooms, and follows them', async () => {
    const alice = await openTab('?room=red&room=%E8%93%9D');
    await alice.isIn('red');
    await alice.isIn('蓝');

    await alice.join('green');
    await alice.leave('red');
    await alice.page.reload();

    await alice.is('connected');
    await alice.isIn('green');
    await alice.isIn('蓝');
    assert.equal(await alice.page.locator('#rooms > li').count(), 2);
    alice.isQuiet();
  });

  test('a name that is none is explained', async () => {
    const alice = await openTab('?room=a/b&room=ops');
    await alice.isIn('ops');
    await alice.sees('“a/b”', { type: 'error' });

    await alice.page.fill('#room-name', 'two words');
    await alice.page.click('#join-room');
    await alice.sees('“two words” is no room name', { type: 'error' });
    assert.equal(await alice.count('“two words”', { type: 'error' }), 1);
    assert.equal(await alice.text('.entry[data-type=error]:last-child .tag'), 'invalid_room');
    alice.isQuiet();
  });
});

describe('staying connected', () => {
  test('a killed server comes back, and so do the tabs with their rooms', async () => {
    const alice = await openTab();
    const bob = await openTab();
    await alice.join('ops');
    await bob.join('ops');

    await server.kill();
    for (const tab of [alice, bob]) {
      await tab.page.locator('#state:not([data-state="connected"])').waitFor();
      assert.ok(await tab.page.isDisabled('#join-room'), 'what cannot be done is not offered');
    }
    await server.start();

    for (const tab of [alice, bob]) {
      await tab.is('connected');
      await tab.isIn('lobby');
      await tab.isIn('ops', { members: 2 });
      // In the rooms from the first frame on, and from where it knows them.
      const { searchParams } = new URL(tab.addresses.at(-1));
      assert.deepEqual(searchParams.getAll('room'), ['lobby', 'ops']);
      assert.equal(searchParams.getAll('epoch').length, 2);
    }
    await alice.say('back again', { to: 'ops' });
    await bob.sees('back again', { room: 'ops' });
    assert.equal(await bob.count('back again'), 1);
    for (const tab of [alice, bob]) tab.isQuiet({ except: SERVER_GONE });
  });

  test('a tab that left every room is in none after a reconnect either', async () => {
    const alice = await openTab();
    await alice.leave('lobby');
    assert.ok(await alice.page.isDisabled('#send-message'));

    await server.kill();
    await alice.page.locator('#state:not([data-state="connected"])').waitFor();
    await server.start();

    await alice.is('connected');
    await alice.page.locator('#rooms-empty').waitFor();
    assert.equal(await alice.page.locator('#rooms > li').count(), 0);
    alice.isQuiet({ except: SERVER_GONE });
  });

  test('a server that hangs is noticed by its silence', async () => {
    const page = await context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(server.page);
    await alice.is('connected');

    server.freeze();
    try {
      // In small steps: what the server sent before it froze may arrive late and restart the count.
      await eventually('that the silence is noticed', async () => {
        await page.clock.runFor(1_000);
        return alice.count('the server does not answer', { type: 'disconnected' });
      });
      assert.ok(alice.sent.includes('{"type":"ping"}'), 'it asked before it gave up');
    } finally {
      server.thaw();
    }
    await page.clock.runFor(1_000);
    await alice.is('connected');
    alice.isQuiet({ except: /closed before the connection is established/ });
  });

  test('a server that answers pings keeps its quiet tabs', async () => {
    const page = await context.newPage();
    await page.clock.install();
    const alice = new Tab(page);
    await page.goto(server.page);
    await alice.is('connected');
    const client = await alice.text('#client');

    for (let round = 1; round <= 3; round += 1) {
      await page.clock.runFor(26_000);
      await eventually('a pong', () => alice.received.filter((frame) => frame.includes('"pong"')).length === round);
    }
    await page.clock.runFor(12_000);
    await alice.is('connected');
    assert.equal(await alice.text('#client'), client);
    alice.isQuiet();
  });

  test('silence: asks after 25 s, gives up 10 s later', async () => {
    const { tab, sockets, said } = await openMocked({ frozen: true });
    const pings = () => said.filter((frame) => frame === '{"type":"ping"}').length;
    sockets[0].send('{"type":"presence","payload":{"members":7},"room":"lobby"}');
    await tab.isIn('lobby', { members: 7 });
    const before = pings();

    await tab.page.clock.runFor(24_999);
    assert.equal(pings(), before);
    await tab.page.clock.runFor(1);
    await eventually('a ping', () => pings() === before + 1);

    await tab.page.clock.runFor(9_999);
    assert.equal(await tab.page.getAttribute('#state', 'data-state'), 'connected');
    await tab.page.clock.runFor(1);
    await tab.is('reconnecting');
    assert.match(await tab.text('#state'), /the server does not answer/);
    tab.isQuiet();
  });
});

describe('close codes', () => {
  test('4000 to 4099: the tab stays away until it is asked to connect again', async () => {
    const { tab, sockets } = await openMocked();
    await sockets[0].close({ code: 4003, reason: 'forbidden' });

    await tab.is('closed');
    assert.match(await tab.text('#state'), /forbidden \(4003\)/);
    await tab.page.clock.runFor(120_000);
    assert.equal(sockets.length, 1);

    await tab.page.click('#reconnect');
    await tab.is('connected');
    assert.equal(sockets.length, 2);
    tab.isQuiet();
  });

  test('4200 to 4299: at once, but not in a tight loop', async () => {
    const { tab, sockets } = await openMocked({ frozen: true });
    await sockets[0].close({ code: 4200, reason: 'move on' });
    await tab.page.clock.runFor(1);
    await eventually('the second connection', () => sockets.length === 2);
    await tab.is('connected');

    await sockets[1].close({ code: 4200, reason: 'move on' });
    await tab.is('reconnecting');
    await tab.page.clock.runFor(499);
    assert.equal(sockets.length, 2);
    await tab.page.clock.runFor(2_000);
    await eventually('the third connection', () => sockets.length === 3);
    tab.isQuiet();
  });

  test('all others: later each time, and soon again once a connection has lasted', async () => {
    const { tab, sockets } = await openMocked({ frozen: true, random: 1 });
    // With the jitter at its far end the waits are the ceilings themselves.
    let connections = 1;
    for (const [code, wait] of [[1001, 1_000], [1011, 2_000], [1012, 4_000], [1013, 8_000], [4100, 16_000], [1001, 20_000], [4101, 20_000]]) {
      await sockets.at(-1).close({ code });
      await tab.is('reconnecting');
      await tab.page.clock.runFor(wait - 1);
      assert.equal(sockets.length, connections, `${code} waits ${wait} ms`);
      await tab.page.clock.runFor(1);
      connections += 1;
      await eventually(`connection ${connections}`, () => sockets.length === connections);
      await tab.is('connected');
    }

    await tab.page.clock.runFor(5_000);
    await sockets.at(-1).close({ code: 1001 });
    await tab.is('reconnecting');
    assert.match(await tab.text('#countdown'), /^Reconnecting in 1 s$/);
    await tab.page.clock.runFor(1_000);
    await eventually('a prompt return', () => sockets.length === connections + 1);
    tab.isQuiet();
  });
});

describe('the page itself', () => {
  test('it speaks the reader’s language', async () => {
    const english = await openTab();
    assert.equal(await english.page.getAttribute('html', 'lang'), 'en');
    assert.equal(await english.text('#send-message'), 'Send');
    assert.equal(await english.text('#state'), 'Connected');

    const reader = await browser.newContext({ locale: 'zh-CN' });
    try {
      const chinese = await Tab.open(reader, server.page);
      await chinese.is('connected');
      assert.equal(await chinese.page.getAttribute('html', 'lang'), 'zh-CN');
      assert.equal(await chinese.text('#send-message'), '发送');
      assert.equal(await chinese.text('#state'), '已连接');
      await chinese.sendEvent('{"a": }');
      assert.equal(await chinese.text('#event-error'), '第 1 行第 7 列：此处应为一个值，却是 }');
      const labels = await chinese.page.evaluate(visibleWords);
      // What stays Latin: names, the protocol's own words, keys of the keyboard and what the server says.
      assert.deepEqual(labels.filter((label) => /[A-Za-z]{2}/.test(label) && !/[\u4e00-\u9fff]/.test(label)), ['wscast', 'lobby', 'JSON']);
      chinese.isQuiet();
    } finally {
      await reader.close();
    }
  });

  test('it is served under a strict policy and keeps to it', async () => {
    const page = await context.newPage();
    const alice = new Tab(page);
    const response = await page.goto(server.page);
    const policy = response.headers()['content-security-policy'];

    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe/);
    await alice.is('connected');
    await alice.join('ops');
    await alice.say('hello');
    await alice.sees('hello');
    await alice.leave('ops');
    await page.click('#clear-log');
    assert.equal(await page.locator('#log .entry').count(), 0);
    alice.isQuiet();
  });

  test('it fits a narrow phone', async () => {
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
    alice.isQuiet();
  });

  test('the keyboard is enough', async () => {
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
    alice.isQuiet();
  });

  test('the log keeps the last 500 entries', async () => {
    const { tab, sockets } = await openMocked();
    for (let n = 1; n <= 700; n += 1) {
      sockets[0].send(JSON.stringify({ type: 'message', payload: `number ${n}`, room: 'lobby', offset: n, from: 'c0-2', ts: 0 }));
    }
    await tab.sees('number 700');
    assert.equal(await tab.page.locator('#log .entry').count(), 500);
    assert.equal(await tab.text('.entry:first-child .payload'), 'number 201');
    tab.isQuiet();
  });
});

/**
 * A tab whose connections end where we say: the page is the server's, its WebSockets are ours, and so is
 * its clock; `said` is what the page sent. With `frozen` the clock moves only when told; `random` fixes the jitter.
 */
async function openMocked({ frozen = false, random } = {}) {
  const page = await context.newPage();
  const tab = new Tab(page);
  const sockets = [];
  const said = [];
  await page.routeWebSocket(/\/ws/, (socket) => {
    socket.onMessage((frame) => said.push(frame));
    sockets.push(socket);
    socket.send(JSON.stringify({
      type: 'message', payload: 'hi', from: 'server', client: `c0-${sockets.length}`,
      rooms: [{ room: 'lobby', epoch: '0', offset: 0, recovered: false, members: 1 }],
    }));
  });
  await page.clock.install({ time: 0 });
  if (random !== undefined) await page.addInitScript(`Math.random = () => ${random}`);
  await page.goto(server.page);
  await tab.is('connected');
  if (frozen) await page.clock.pauseAt(60_000);
  return { tab, sockets, said };
}

/** Runs in the page: the texts a reader sees or hears. */
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
