// Screenshots of the page in both languages, both themes and two widths, for a person to look at: `make screenshots`.
// Usage: node tests/browser/screenshots.mjs FOLDER [NAME-PART]

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { Server, Tab, Tokens, openBrowser } from './support.mjs';

const [folder = 'target/screenshots', part = ''] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const tokens = new Tokens();
const browser = await openBrowser();
const server = await Server.start();
const guarded = await Server.start(tokens.flags);

/** Publishes what people say in the pictures. */
async function fill(address, token) {
  const headers = { 'Content-Type': 'application/json', ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const publish = (room, message) => fetch(`${address}rooms/${room}/messages`, { method: 'POST', headers, body: JSON.stringify(message) });
  for (let n = 1; n <= 40; n += 1) {
    await publish('lobby', { type: 'message', payload: `Sensor ${n % 4 + 1}: ${(20 + n / 7).toFixed(1)} °C` });
  }
  await publish('lobby', { type: 'custom_event', payload: { action: 'deploy', service: 'api', version: '2.4.1', steps: ['build', 'test', 'release'] } });
  await publish('lobby', { type: 'message', payload: 'The release is out. Please watch the error rate for the next ten minutes.\nThe dashboard is on the big screen.' });
  for (let n = 1; n <= 3; n += 1) await publish('ops', { type: 'message', payload: `disk ${n} is at 71 %` });
}

const VIEWS = {
  async first() {},
  async conversation({ tab }) {
    await tab.join('ops');
    await tab.select('lobby');
    await tab.say('Thank you, looks good from here.');
    await fetch(`${server.page}rooms/ops/messages`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"type":"message","payload":"disk 4 is at 90 %"}' });
    await tab.page.locator('.room-row .unread:not(:empty)').first().waitFor({ state: 'attached' });
  },
  async rooms({ tab, narrow }) {
    await tab.join('ops');
    if (narrow) await tab.showRooms();
  },
  async event({ tab }) {
    await tab.page.check('#mode-event');
    await tab.page.fill('#text', '{\n  "action": "greeting",\n}');
    await tab.page.click('#send');
  },
  async failed({ tab }) {
    await tab.page.fill('#text', 'x'.repeat(70_000));
    await tab.page.click('#send');
  },
  async code({ tab }) {
    await tab.page.click('[data-panel=code]');
  },
  async charts({ tab }) {
    const toggle = () => tab.page.click('[data-panel=charts]');
    // Figures arrive often while the charts are open, and a narrow page shows no field beside them.
    for (let n = 0; n < 6; n += 1) {
      await tab.say(`point ${n}`);
      await toggle();
      await tab.page.waitForTimeout(1_200);
      if (n < 5) await toggle();
    }
  },
  async frames({ tab }) {
    await tab.say('hello');
    await tab.page.click('[data-panel=frames]');
  },
  async outage({ tab, own }) {
    await own.kill();
    await tab.page.locator('#notice:visible').waitFor();
    await tab.say('sent without a connection');
  },
};

const GUARDED_VIEWS = {
  async token() {},
  async operator({ tab }) {
    await tab.page.locator('[data-panel=operator]').click();
    await tab.page.locator('.panel-operator tbody tr').first().waitFor();
  },
};

async function shoot(name, { width, locale, scheme }, open) {
  const file = `${name}-${locale.slice(0, 2)}-${scheme}-${width}`;
  if (!file.includes(part)) return;
  const context = await browser.newContext({ locale, colorScheme: scheme, viewport: { width, height: width < 700 ? 740 : 800 } });
  const page = await open(context, width < 700);
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(folder, `${file}.png`) });
  await context.close();
  console.log(join(folder, `${file}.png`));
}

await fill(server.page);
await fill(guarded.page, tokens.mint('--user', 'setup', '--subscribe', '*', '--publish', '*'));
for (const width of [1280, 360]) {
  for (const [locale, scheme] of [['en-US', 'light'], ['zh-CN', 'dark'], ['en-US', 'dark'], ['zh-CN', 'light']]) {
    const variant = { width, locale, scheme };
    for (const [name, act] of Object.entries(VIEWS)) {
      await shoot(name, variant, async (context, narrow) => {
        const own = name === 'outage' ? await Server.start() : server;
        const tab = await Tab.open(context, own.page);
        await tab.waitForState('connected');
        await tab.page.locator('.entry, #log-empty:visible').first().waitFor();
        if (name !== 'first') await tab.page.click('#got-it');
        await act({ tab, own, narrow });
        return tab.page;
      });
    }
    for (const [name, act] of Object.entries(GUARDED_VIEWS)) {
      await shoot(name, variant, async (context) => {
        const token = name === 'token' ? '' : tokens.mint('--user', 'olga', '--admin', '--subscribe', '*', '--publish', '*', '--ttl', '30m');
        const tab = await Tab.open(context, token ? `${guarded.page}#token=${token}` : guarded.page);
        await tab.waitForState(token ? 'connected' : 'closed');
        await act({ tab });
        return tab.page;
      });
    }
  }
}

/** The picture in the README: people and a sensor in a room, and the charts. */
async function readme(page) {
  const said = [
    ['alice', 'Deploying 2.4.1 now. Please watch the error rate.'],
    ['ci', { action: 'deploy', service: 'api', version: '2.4.1', ok: true }],
    ['bob', 'Looks good here: p95 is at 31 ms.'],
    ['sensor-3', 'temperature 21.4 °C'],
    ['alice', 'Great. Closing the window at noon.'],
  ];
  const token = (user) => tokens.mint('--user', user, '--subscribe', '*', '--publish', '*');
  const users = Object.fromEntries([...new Set(said.map(([user]) => user)), 'dora'].map((user) => [user, token(user)]));
  const publish = (user, payload, room = 'ops') => fetch(`${guarded.page}rooms/${room}/messages`, {
    method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${users[user]}` },
    body: JSON.stringify({ type: typeof payload === 'object' ? 'custom_event' : 'message', payload }),
  });
  await page.goto(`${guarded.page}?room=ops&room=alerts&room=sensors#token=${users.dora}`);
  await page.locator('#state[data-state=connected]').waitFor();
  for (const user of ['alice', 'bob']) {
    const other = await page.context().newPage();
    await other.goto(`${guarded.page}?room=ops#token=${users[user]}`);
    await other.locator('#state[data-state=connected]').waitFor();
  }
  await page.bringToFront();
  await page.click('#got-it');
  await page.locator('[data-room=ops] .room-open').click();
  await page.click('[data-panel=charts]');
  for (let n = 0; n < 14; n += 1) {
    for (let m = 0; m < 3 + (n * 5) % 7; m += 1) await publish('sensor-3', `humidity ${40 + n} %`, n % 3 ? 'sensors' : 'alerts');
    const next = n % 3 === 2 && said.shift();
    if (next) await publish(...next);
    await page.waitForTimeout(1_000);
  }
  for (const next of said) await publish(...next);
  await page.fill('#text', 'Thank you all!');
  await page.click('#send');
  await page.locator('.entry.own[data-status=stored]').waitFor();
}

if ('readme'.includes(part)) {
  const context = await browser.newContext({ locale: 'en-US', colorScheme: 'light', viewport: { width: 1180, height: 560 } });
  const page = await context.newPage();
  await readme(page);
  await page.screenshot({ path: join(folder, 'readme.png') });
  console.log(join(folder, 'readme.png'));
}
await browser.close();
await Promise.all([server.kill(), guarded.kill()]);
tokens.remove();
