// The page in Firefox: connecting, messages, and reconnecting after a restart of the server.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Firefox, firefoxMissing } from './firefox.mjs';
import { Server } from './support.mjs';

const missing = firefoxMissing();

test('Firefox connects, sends, and reconnects soon after the server was killed and restarted', { skip: missing ?? false }, async (t) => {
  const server = await Server.start();
  t.after(() => server.kill());
  const firefox = await Firefox.open();
  t.after(() => firefox.close());
  const state = (name) => `document.querySelector('#state')?.dataset.state === '${name}'`;
  const say = async (text) => {
    await firefox.evaluate(`document.querySelector('#text').value = ${JSON.stringify(text)}; document.querySelector('#send').click()`);
  };
  const isStored = (text) => `[...document.querySelectorAll('.entry.own[data-status=stored] .payload')].some((node) => node.textContent === '${text}')`;

  await firefox.goto(server.page);
  await firefox.waitFor(state('connected'));
  await say('from Firefox');
  await firefox.waitFor(isStored('from Firefox'));

  await server.kill();
  await firefox.waitFor(`!(${state('connected')})`);
  await say('during the outage');
  await firefox.waitFor("document.querySelector('.entry[data-status=pending]')");
  await server.start();
  // Firefox delays a WebSocket after failures by up to a minute; the client avoids that.
  await firefox.waitFor(state('connected'));
  await firefox.waitFor(isStored('during the outage'));
  assert.match(await firefox.evaluate("document.querySelector('#log').textContent"), /Connected again after/);
  assert.equal(await firefox.evaluate('document.querySelectorAll(".entry.own").length'), 2);
});
