// What the scenarios are told in: a server that can be killed, a browser, and tabs with a person at each.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const SERVER = resolve(process.env.WSCAST_BIN ?? join(ROOT, 'target/release/wscast'));
const MODULES = resolve(process.env.BROWSER_MODULES ?? join(ROOT, 'target/browser'));
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Every wait ends by then: generous, because a loaded machine is slow and a right answer costs nothing. */
export const DEADLINE_MS = 20_000;

// No network but the server under test: a browser that phones home waits for time-outs in a closed one.
const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** A Chromium without a window. */
export async function openBrowser() {
  assert.ok(existsSync(CHROMIUM), `no browser at ${CHROMIUM}: install Debian's chromium or set CHROMIUM`);
  const { chromium } = createRequire(join(MODULES, 'package.json'))('playwright-core');
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: CHROMIUM_FLAGS });
}

/** A certificate for 127.0.0.1 that signs itself, in files. */
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

/** The real server in a process of its own. */
export class Server {
  #process = null;
  #port = 0;
  #flags;

  /** @param {string[]} flags beside the address */
  constructor(flags = []) {
    this.#flags = flags;
  }

  static async start(flags) {
    const server = new Server(flags);
    await server.start();
    return server;
  }

  /** Starts it: on any free port the first time, afterwards on the same one. */
  async start() {
    assert.ok(existsSync(SERVER), `no server at ${SERVER}: build it or set WSCAST_BIN`);
    const args = ['--host', '127.0.0.1', '--port', String(this.#port), ...this.#flags];
    this.#process = spawn(SERVER, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#port = await announcedPort(this.#process);
  }

  get page() {
    const scheme = this.#flags.includes('--tls-cert') ? 'https' : 'http';
    return `${scheme}://127.0.0.1:${this.#port}/`;
  }

  /** As a crash would end it: no goodbye to anybody. */
  async kill() {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  }

  /** It keeps its connections and answers nothing, like a machine that hangs. */
  freeze() {
    this.#process.kill('SIGSTOP');
  }

  thaw() {
    this.#process?.kill('SIGCONT');
  }
}

/** Reads the port from the first URL the server prints; what it said is in the error if it prints none. */
function announcedPort(child) {
  return new Promise((done, fail) => {
    let said = '';
    let complained = '';
    const timer = setTimeout(() => giveUp('printed no address in time'), DEADLINE_MS);
    const giveUp = (why) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      fail(new Error(`the server ${why}\nstdout: ${said}\nstderr: ${complained}`));
    };
    child.once('error', (error) => giveUp(`did not start: ${error.message}`));
    child.once('exit', (code, signal) => giveUp(`ended with ${code ?? signal}`));
    child.stderr.on('data', (chunk) => { complained = (complained + chunk).slice(-4000); });
    child.stdout.on('data', (chunk) => {
      said = (said + chunk).slice(-4000);
      const url = /https?:\/\/[^\s/]+:(\d+)\//.exec(said);
      if (!url) return;
      clearTimeout(timer);
      done(Number(url[1]));
    });
  });
}

/**
 * One tab of the page and the person before it. Whatever they do or look for, they turn to the tab first:
 * a browser draws a tab in the background once a second at most.
 */
export class Tab {
  /** Where its connections went, in order. */
  addresses = [];
  /** Frames the page sent, as text. */
  sent = [];
  /** Frames the page was sent. */
  received = [];
  /** Errors the browser reported: exceptions, refused resources, violations of the page's policy. */
  #complaints = [];

  constructor(page) {
    this.page = page;
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('pageerror', (error) => this.#complaints.push(String(error)));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.#complaints.push(message.text());
    });
    page.on('websocket', (socket) => {
      this.addresses.push(socket.url());
      socket.on('framesent', ({ payload }) => this.sent.push(String(payload)));
      socket.on('framereceived', ({ payload }) => this.received.push(String(payload)));
    });
  }

  /** Opens the page at `address` in a new tab of `context`, without waiting for the connection. */
  static async open(context, address) {
    const tab = new Tab(await context.newPage());
    await tab.page.goto(address);
    return tab;
  }

  // What the person does

  async say(text, { to } = {}) {
    await this.page.bringToFront();
    if (to) await this.select(to);
    await this.page.fill('#message-text', text);
    await this.page.click('#send-message');
  }

  async sendEvent(json) {
    await this.page.bringToFront();
    await this.page.fill('#event-text', json);
    await this.page.click('#send-event');
  }

  async join(room) {
    await this.page.bringToFront();
    await this.page.fill('#room-name', room);
    await this.page.click('#join-room');
    await this.isIn(room);
  }

  async leave(room) {
    await this.page.bringToFront();
    await this.#room(room).getByRole('button').click();
    await this.#room(room).waitFor({ state: 'detached' });
  }

  async select(room) {
    await this.page.bringToFront();
    await this.#room(room).getByRole('radio').check();
  }

  // What the person sees

  async is(state) {
    await this.page.bringToFront();
    await this.page.locator(`#state[data-state="${state}"]`).waitFor();
  }

  async isIn(room, { members } = {}) {
    await this.page.bringToFront();
    const count = this.page.locator('.members', { hasText: members === undefined ? '' : new RegExp(`^${members} `) });
    await this.#room(room).filter({ has: count }).waitFor();
  }

  /** Waits until an entry holds `text`. */
  async sees(text, { type = 'message', room } = {}) {
    await this.page.bringToFront();
    await this.#entries(text, { type, room }).first().waitFor();
  }

  /** How many entries hold `text` now. */
  async count(text, { type = 'message', room } = {}) {
    await this.page.bringToFront();
    return this.#entries(text, { type, room }).count();
  }

  async text(selector) {
    return (await this.page.locator(selector).textContent()).trim();
  }

  /** Nothing went wrong that a person with the developer tools open would see. */
  isQuiet({ except } = {}) {
    const complaints = this.#complaints.filter((text) => !except?.test(text));
    assert.deepEqual(complaints, [], 'the browser complained');
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

/** Waits until `condition` gives something true, and gives it back. */
export async function eventually(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) assert.fail(`waited in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
