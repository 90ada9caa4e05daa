// Drives Debian's Firefox by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/), which Playwright speaks only to
// a Firefox of its own.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { BROWSER_START_MS, eventually, requireModule } from './support.mjs';

const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

/** Attempts to remove a profile, each of which waits 0.1 s. */
const REMOVALS_MAX = 50;

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
  /** The end of what Firefox printed, for errors. */
  #output = '';

  static async open() {
    const firefox = new Firefox();
    try {
      await firefox.#start();
    } catch (error) {
      await firefox.close();
      throw error;
    }
    return firefox;
  }

  async #start() {
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
    writeFileSync(join(this.#profile, 'user.js'), lines.join(''));
    const args = ['--headless', '--no-remote', '--profile', this.#profile, '--remote-debugging-port', '0'];
    this.#process = spawn(FIREFOX, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HOME: this.#profile } });
    const address = await this.#announcedAddress();
    const { WebSocket } = requireModule('ws');
    this.#socket = new WebSocket(`${address}/session`);
    await once(this.#socket, 'open');
    this.#socket.on('message', (text) => this.#received(JSON.parse(text)));
    this.#socket.on('close', () => this.#failPending());
    await this.#command('session.new', { capabilities: {} });
    ({ context: this.#tab } = await this.#command('browsingContext.create', { type: 'tab' }));
  }

  /** Returns the address that Firefox prints. */
  #announcedAddress() {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(this.#error('printed no address in time')), BROWSER_START_MS);
      // After everything that it printed.
      this.#process.once('close', (code, signal) => {
        clearTimeout(timer);
        fail(this.#error(`ended with ${code ?? signal}`));
      });
      this.#process.stderr.on('data', (chunk) => {
        this.#output = (this.#output + chunk).slice(-4000);
        const [, address] = /WebDriver BiDi listening on (ws:\S+)/.exec(this.#output) ?? [];
        if (!address) return;
        clearTimeout(timer);
        done(address);
      });
    });
  }

  #error(what) {
    return new Error(`Firefox ${what}: ${this.#output}`);
  }

  #received({ id, result, error, message }) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error) pending?.fail(new Error(`${error}: ${message}`));
    else pending?.done(result);
  }

  /** A Firefox that is gone replies to nothing. */
  #failPending() {
    for (const { fail } of this.#pending.values()) fail(this.#error('closed the session'));
    this.#pending.clear();
  }

  async #command(method, params) {
    if (this.#socket.readyState !== this.#socket.OPEN) throw this.#error('closed the session');
    const id = (this.#lastId += 1);
    const reply = new Promise((done, fail) => this.#pending.set(id, { done, fail }));
    this.#socket.send(JSON.stringify({ id, method, params }));
    return reply;
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

  /**
   * Waits until an expression is true in the page. Firefox fails a command while it exchanges the process of a tab, so
   * a failure counts as false, and the last one is part of the error.
   */
  async waitFor(expression) {
    let failure = null;
    const isTrue = async () => {
      try {
        return await this.evaluate(`Boolean(${expression})`);
      } catch (error) {
        failure = error;
        return false;
      }
    };
    await eventually(expression, isTrue).catch((error) => {
      throw new Error(error.message, { cause: failure });
    });
  }

  async close() {
    this.#socket?.terminate();
    // There is none if it could not be started.
    if (this.#process?.exitCode === null && this.#process.signalCode === null) {
      const gone = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await gone;
    }
    removeFolder(this.#profile);
  }
}

/**
 * Removes a folder in which processes of Firefox that are just ending may still create files. `maxRetries` alone would
 * not look for new files again.
 */
function removeFolder(folder) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 1 });
      return;
    } catch (error) {
      if (attempt === REMOVALS_MAX) throw error;
    }
  }
}
