// Drives Debian's Firefox by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/), which Playwright speaks only to
// a Firefox of its own.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { DEADLINE_MS, eventually, requireModule } from './support.mjs';

const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

// Firefox must not contact its vendor, because such requests time out in a closed network.
const PREFERENCES = {
  'app.update.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'toolkit.telemetry.server': '',
  'intl.accept_languages': 'en-US',
};

/** Returns why there is no Firefox, or null. */
export function firefoxMissing() {
  const { status } = spawnSync(FIREFOX, ['--version'], { stdio: 'ignore' });
  return status === 0 ? null : `no Firefox at ${FIREFOX}: install Debian's firefox-esr or set FIREFOX`;
}

/** A headless Firefox with one tab. */
export class Firefox {
  #process;
  #profile = mkdtempSync(join(tmpdir(), 'wscast-firefox-'));
  #socket;
  #tab;
  #lastId = 0;
  #pending = new Map();

  static async open() {
    const firefox = new Firefox();
    await firefox.#start();
    return firefox;
  }

  async #start() {
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
    writeFileSync(join(this.#profile, 'user.js'), lines.join(''));
    const args = ['--headless', '--no-remote', '--profile', this.#profile, '--remote-debugging-port', '0'];
    this.#process = spawn(FIREFOX, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HOME: this.#profile } });
    const { WebSocket } = requireModule('ws');
    this.#socket = new WebSocket(`${await this.#announcedAddress()}/session`);
    await once(this.#socket, 'open');
    this.#socket.on('message', (text) => this.#received(JSON.parse(text)));
    await this.#command('session.new', { capabilities: {} });
    ({ context: this.#tab } = await this.#command('browsingContext.create', { type: 'tab' }));
  }

  /** Returns the address that Firefox prints. */
  #announcedAddress() {
    return new Promise((done, fail) => {
      let output = '';
      const timer = setTimeout(() => fail(new Error(`Firefox printed no address in time: ${output}`)), DEADLINE_MS);
      this.#process.stderr.on('data', (chunk) => {
        output = (output + chunk).slice(-4000);
        const [, address] = /WebDriver BiDi listening on (ws:\S+)/.exec(output) ?? [];
        if (!address) return;
        clearTimeout(timer);
        done(address);
      });
    });
  }

  #received({ id, result, error, message }) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error) pending?.fail(new Error(`${error}: ${message}`));
    else pending?.done(result);
  }

  #command(method, params) {
    const id = (this.#lastId += 1);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((done, fail) => this.#pending.set(id, { done, fail }));
  }

  async goto(url) {
    await this.#command('browsingContext.navigate', { context: this.#tab, url, wait: 'complete' });
  }

  /** Returns the text or the number that an expression has in the page. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.#command('script.evaluate', {
      expression, target: { context: this.#tab }, awaitPromise: true,
    });
    assert.equal(exceptionDetails, undefined, exceptionDetails?.text);
    return result.value;
  }

  /** Waits until an expression is true in the page. */
  async waitFor(expression) {
    await eventually(expression, () => this.evaluate(`Boolean(${expression})`));
  }

  async close() {
    this.#socket?.terminate();
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
    rmSync(this.#profile, { recursive: true, maxRetries: 5 });
  }
}
