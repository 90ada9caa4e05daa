// The browser, the server and the tabs of the tests.
//
// The tests need Node.js 20 or newer and Debian's chromium (or another Chromium at $CHROMIUM). `make test-browser` sets
// everything up and runs them. By hand, from the top of the repository, with the server built:
//
//   mkdir -p target/browser
//   cp tests/browser/package.json tests/browser/package-lock.json target/browser/
//   npm ci --prefix target/browser --ignore-scripts --no-audit --no-fund
//   WSCAST_BIN=target/release/wscast BROWSER_MODULES=target/browser node --test tests/browser/page.test.mjs
//
// These are the default values of both variables.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, afterEach, before, beforeEach } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const SERVER = resolve(process.env.WSCAST_BIN ?? join(ROOT, 'target/release/wscast'));
const MODULES = resolve(process.env.BROWSER_MODULES ?? join(ROOT, 'target/browser'));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** The limit of every wait, with a margin for a busy machine. */
export const DEADLINE_MS = Number(process.env.BROWSER_DEADLINE_MS ?? 40_000);

/** The limit of a browser's start, which reads hundreds of megabytes, perhaps for the first time on this machine. */
export const BROWSER_START_MS = 120_000;

// The browser must not contact its vendor, because such requests time out in a closed network.
const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** Returns a package that the tests have installed. */
export function requireModule(name) {
  return createRequire(join(MODULES, 'package.json'))(name);
}

/** Starts a headless Chromium. Playwright turns off the back/forward cache unless it is wanted. */
export async function openBrowser({ backForwardCache = false } = {}) {
  assert.ok(existsSync(CHROMIUM), `no browser at ${CHROMIUM}: install Debian's chromium or set CHROMIUM`);
  const { chromium } = requireModule('playwright-core');
  const ignoreDefaultArgs = backForwardCache ? ['--disable-back-forward-cache'] : [];
  return chromium.launch({
    executablePath: CHROMIUM, headless: true, args: CHROMIUM_FLAGS, ignoreDefaultArgs, timeout: BROWSER_START_MS,
  });
}

/** A self-signed certificate for 127.0.0.1, in files. */
export class Certificate {
  #folder = mkdtempSync(join(tmpdir(), 'wscast-'));

  constructor() {
    execFileSync('openssl', [
      ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost'.split(' '),
      '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
      '-out', this.#file('cert.pem'), '-keyout', this.#file('key.pem'),
    ], { stdio: 'ignore' });
  }

  get flags() {
    return ['--tls-cert', this.#file('cert.pem'), '--tls-key', this.#file('key.pem')];
  }

  remove() {
    rmSync(this.#folder, { recursive: true });
  }

  #file(name) {
    return join(this.#folder, name);
  }
}

/** A key in a file, and the tokens that it signs. */
export class Tokens {
  #folder = mkdtempSync(join(tmpdir(), 'wscast-'));
  #key = join(this.#folder, 'key');

  constructor() {
    writeFileSync(this.#key, 'kq1x9Lw7Zr3Vt5Yb8Nc2Md4Ge6Hj0Fp-Qs');
  }

  /** The flags of a server that requires these tokens. */
  get flags() {
    return ['--secret-key-file', this.#key];
  }

  /** @param {string[]} grant the flags of `wscast token` */
  mint(...grant) {
    return execFileSync(SERVER, ['token', ...this.flags, ...grant], { encoding: 'utf8', env: withoutSettings() }).trim();
  }

  remove() {
    rmSync(this.#folder, { recursive: true });
  }
}

/** A wscast process. */
export class Server {
  #process = null;
  #port = 0;
  #flags;

  /** @param {string[]} flags the flags besides the address */
  constructor(flags = []) {
    this.#flags = flags;
  }

  static async start(flags) {
    const server = new Server(flags);
    await server.start();
    return server;
  }

  /** Starts the process, on a free port the first time and on the same port afterwards. */
  async start() {
    assert.ok(existsSync(SERVER), `no server at ${SERVER}: build it or set WSCAST_BIN`);
    const args = ['--host', '127.0.0.1', '--port', String(this.#port), ...this.#flags];
    this.#process = spawn(SERVER, args, { stdio: ['ignore', 'pipe', 'pipe'], env: withoutSettings() });
    this.#port = await announcedPort(this.#process);
  }

  get page() {
    const scheme = this.#flags.includes('--tls-cert') ? 'https' : 'http';
    return `${scheme}://127.0.0.1:${this.#port}/`;
  }

  /** Kills the process, so that it closes no connection properly. */
  async kill() {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  }

  /** Stops the process, which keeps its connections open and sends nothing. */
  freeze() {
    this.#process.kill('SIGSTOP');
  }

  thaw() {
    this.#process?.kill('SIGCONT');
  }
}

/** Returns the environment without the server's settings. */
function withoutSettings() {
  const isSetting = (name) => name.startsWith('WSCAST_') || ['HOST', 'PORT'].includes(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isSetting(name)));
}

/** Returns the port of the first URL that the server prints. An error has the server's output. */
function announcedPort(child) {
  return new Promise((done, fail) => {
    let output = '';
    let complained = '';
    const timer = setTimeout(() => giveUp('printed no address in time'), DEADLINE_MS);
    const giveUp = (why) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      fail(new Error(`the server ${why}\nstdout: ${output}\nstderr: ${complained}`));
    };
    child.once('error', (error) => giveUp(`did not start: ${error.message}`));
    child.once('exit', (code, signal) => giveUp(`ended with ${code ?? signal}`));
    child.stderr.on('data', (chunk) => { complained = (complained + chunk).slice(-4000); });
    child.stdout.on('data', (chunk) => {
      output = (output + chunk).slice(-4000);
      const url = /https?:\/\/[^\s/]+:(\d+)\//.exec(output);
      if (!url) return;
      clearTimeout(timer);
      done(Number(url[1]));
    });
  });
}

/**
 * A tab of the page and the person who uses it. Every action brings the tab to the front, because a browser
 * draws a tab in the background only once a second.
 */
export class Tab {
  /** The addresses of its WebSockets, in order. */
  addresses = [];
  /** The frames that the page sent. */
  sent = [];
  /** The frames that the page received. */
  received = [];
  /** The errors on the browser's console: exceptions, failed requests, violations of the page's policy. */
  #consoleErrors = [];

  constructor(page) {
    this.page = page;
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('pageerror', (error) => this.#consoleErrors.push(String(error)));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.#consoleErrors.push(message.text());
    });
    page.on('websocket', (socket) => {
      this.addresses.push(socket.url());
      socket.on('framesent', ({ payload }) => this.sent.push(String(payload)));
      socket.on('framereceived', ({ payload }) => this.received.push(String(payload)));
    });
  }

  /** Opens the page in a new tab. Does not wait for the connection. */
  static async open(context, address) {
    const tab = new Tab(await context.newPage());
    await tab.page.goto(address);
    return tab;
  }

  // Actions

  async say(text, { to } = {}) {
    await this.page.bringToFront();
    if (to) await this.select(to);
    await this.page.check('#mode-message');
    await this.page.fill('#text', text);
    await this.page.click('#send');
  }

  async sendEvent(json, { to } = {}) {
    await this.page.bringToFront();
    if (to) await this.select(to);
    await this.page.check('#mode-event');
    await this.page.fill('#text', json);
    await this.page.click('#send');
  }

  /** Opens the list of rooms, which a narrow page does not show at first. */
  async showRooms() {
    await this.page.bringToFront();
    const toggle = this.page.locator('#show-rooms[aria-expanded=false]');
    if (await toggle.isVisible()) await toggle.click();
  }

  async join(room) {
    await this.showRooms();
    await this.page.fill('#room-name', room);
    await this.page.click('#join-room');
    await this.isIn(room);
  }

  async leave(room) {
    await this.showRooms();
    await this.#room(room).locator('.leave').click();
    await this.#room(room).waitFor({ state: 'detached' });
  }

  async select(room) {
    await this.showRooms();
    await this.#room(room).locator('.room-open').click();
    await this.page.locator('#room-title', { hasText: room }).waitFor();
  }

  // What the person sees

  async waitForState(state) {
    await this.page.bringToFront();
    await this.page.locator(`#state[data-state="${state}"]`).waitFor().catch((error) => {
      throw new Error(`${error.message}\nconsole: ${this.#consoleErrors.join('\n')}`);
    });
  }

  /** Waits until the room is in the list, with this number of members if it is given. */
  async isIn(room, { members } = {}) {
    await this.page.bringToFront();
    const count = this.page.locator('.members', { hasText: members === undefined ? '' : new RegExp(`^${members} `) });
    await this.#room(room).filter({ has: count }).waitFor({ state: 'attached' });
  }

  /** Waits until an entry of the log has `text`. */
  async sees(text, { type = 'message', room } = {}) {
    await this.page.bringToFront();
    await this.#entries(text, { type, room }).first().waitFor();
  }

  /** Returns how many entries of the log have `text` now. */
  async count(text, { type = 'message', room } = {}) {
    await this.page.bringToFront();
    return this.#entries(text, { type, room }).count();
  }

  async text(selector) {
    return (await this.page.locator(selector).textContent()).trim();
  }

  /** Asserts that the browser's console has no errors, except expected ones. */
  assertNoConsoleErrors({ except } = {}) {
    const errors = this.#consoleErrors.filter((text) => !except?.test(text));
    assert.deepEqual(errors, [], 'errors on the console');
  }

  #room(room) {
    return this.page.locator(`#rooms [data-room="${room}"]`);
  }

  #entries(text, { type, room }) {
    const inRoom = room === undefined ? '' : `[data-room="${room}"]`;
    const payload = this.page.locator('.payload', { hasText: text });
    return this.page.locator(`#log .entry[data-type="${type}"]${inRoom}`).filter({ has: payload });
  }
}

/** The replies of a scripted server to requests that are not part of a script. */
const REPLIES = {
  ping: {},
  presence: { members: 1, clients: [] },
  history: { epoch: '0', first: 1, last: 0, contiguous: true, messages: [] },
};

/**
 * Opens a tab with scripted WebSockets and a scripted clock. `sent` has the frames that the page sent. With
 * `frozen` the clock moves only with `runFor`; `random` replaces `Math.random`.
 */
export async function openScripted(context, server, { frozen = false, random } = {}) {
  const page = await context.newPage();
  const tab = new Tab(page);
  const sockets = [];
  const sent = [];
  await page.routeWebSocket(/\/ws/, (socket) => {
    socket.onMessage((frame) => {
      sent.push(frame);
      const { type, id, room } = JSON.parse(frame);
      const payload = REPLIES[type];
      if (payload && id) socket.send(JSON.stringify({ type: type === 'ping' ? 'pong' : type, id, room, payload: { room, ...payload } }));
    });
    sockets.push(socket);
    socket.send(JSON.stringify({
      type: 'message', payload: 'hi', from: 'server', client: `c0-${sockets.length}`,
      rooms: [{ room: 'lobby', epoch: '0', offset: 0, recovered: false, members: 1 }],
    }));
  });
  await page.clock.install({ time: 0 });
  if (random !== undefined) await page.addInitScript(`Math.random = () => ${random}`);
  await page.goto(server.page);
  await tab.waitForState('connected');
  if (frozen) await page.clock.pauseAt(60_000);
  return { tab, sockets, sent };
}

/**
 * Starts a browser and a server for the tests of a file, and a fresh browser profile for each test.
 * @param {string[]} [flags] of the server
 */
export function useBrowser(flags) {
  const shared = { browser: null, server: null, context: null };
  before(async () => {
    shared.browser = await openBrowser();
    shared.server = await Server.start(flags);
  });
  after(async () => {
    await shared.browser?.close();
    await shared.server?.kill();
  });
  beforeEach(async () => {
    shared.context = await shared.browser.newContext({ locale: 'en-US' });
  });
  afterEach(() => shared.context.close());
  return {
    get browser() { return shared.browser; },
    get server() { return shared.server; },
    get context() { return shared.context; },
    /** Opens a connected tab; tabs of one test share their storage. `options` make a profile of its own. */
    async openTab(query = '', options = undefined) {
      const context = options ? await shared.browser.newContext({ locale: 'en-US', ...options }) : shared.context;
      const tab = await Tab.open(context, shared.server.page + query);
      await tab.waitForState('connected');
      return tab;
    },
    /** Publishes over HTTP, as another client would. */
    async publish(room, ...payloads) {
      for (const payload of payloads) {
        const body = typeof payload === 'object' ? { type: 'custom_event', payload } : { type: 'message', payload };
        const response = await fetch(`${shared.server.page}rooms/${encodeURIComponent(room)}/messages`, {
          method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
        });
        assert.equal(response.status, 201, await response.text());
      }
    },
  };
}

/** Waits until `condition` returns a true value, and returns that value. */
export async function eventually(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) assert.fail(`timed out waiting for: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
