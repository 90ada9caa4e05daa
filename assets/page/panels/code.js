/** The panel with lines to copy: curl, JavaScript, Python and wscast for this server, this room and this token. */

import { button, element, setText } from '../base/element.js';
import { copyText } from '../base/copy.js';
import { currentToken } from '../connection/token.js';
import { words } from '../words/words.js';

/**
 * @param {{ room: () => string | undefined, server: () => { version: string, hasDocs: boolean } }} options `server`:
 *   what the server has said about itself
 */
export function codePanel({ room, server }) {
  let withToken = false;
  /** @type {HTMLElement | undefined} */
  let shownVersion;
  /** @type {HTMLElement | undefined} */
  let docs;

  /** @param {HTMLElement} box */
  function draw(box) {
    const name = room() ?? 'lobby';
    const token = currentToken();
    box.append(element('p', 'hint', words.codeHint(name)));
    if (token) box.append(tokenSwitch(() => box.replaceChildren() ?? draw(box)));
    const shown = token === '' ? '' : withToken ? token : 'TOKEN';
    for (const [title, code] of samples(name, shown)) box.append(sample(title, code));
    box.append(links());
  }

  /** @param {() => void} redraw */
  function tokenSwitch(redraw) {
    const label = element('label', 'check');
    const input = element('input');
    input.type = 'checkbox';
    input.id = 'with-token';
    input.checked = withToken;
    input.addEventListener('change', () => {
      withToken = input.checked;
      redraw();
      document.getElementById('with-token')?.focus();
    });
    label.append(input, words.withToken);
    return label;
  }

  function links() {
    const list = element('p', 'links');
    const toDocs = element('a', '', words.documentation);
    toDocs.href = 'docs';
    docs = toDocs;
    const client = element('a', '', words.javascriptClient);
    client.href = 'assets/client.js';
    list.append(docs, client);
    shownVersion = element('span', 'hint');
    list.append(shownVersion);
    update();
    return list;
  }

  /** The server may name its version after the panel was opened, and whether it has the documentation. */
  function update() {
    const { version, hasDocs } = server();
    if (docs) docs.hidden = !hasDocs;
    if (shownVersion && version) setText(shownVersion, `wscast ${version}`);
  }

  return { draw, update };
}

/** @type {(title: string, code: string) => HTMLElement} */
function sample(title, code) {
  const box = element('section', 'sample');
  const head = element('div', 'sample-head');
  const copy = button('quiet', words.copy, () => copyText(code, copy));
  copy.setAttribute('aria-label', words.copyThis(title));
  head.append(element('h3', '', title), copy);
  const text = element('pre');
  text.tabIndex = 0;
  text.setAttribute('aria-label', title);
  text.setAttribute('role', 'region');
  text.append(element('code', '', code));
  box.append(head, text);
  return box;
}

/** Returns titles and programs. @type {(room: string, token: string) => [string, string][]} */
export function samples(room, token) {
  const base = new URL('.', location.href.split(/[?#]/)[0]).href;
  const socket = `${base.replace(/^http/, 'ws')}ws`;
  const path = `${base}rooms/${encodeURIComponent(room)}`;
  const query = `?room=${encodeURIComponent(room)}`;
  const header = token ? ` -H ${shell(`Authorization: Bearer ${token}`)}` : '';
  const js = JSON.stringify;
  return [
    [words.samples.curlRead, `curl -N${header} ${shell(`${path}/events`)}`],
    [words.samples.curlSend, `curl${header} -H 'Content-Type: application/json' \\\n  -d '{"type":"message","payload":"hello"}' \\\n  ${shell(`${path}/messages`)}`],
    ['JavaScript', [
      `import { WscastClient } from ${js(`${base}assets/client.js`)};`,
      `const client = new WscastClient(${js(socket)}, {`,
      `  rooms: [${js(room)}],${token ? ` token: ${js(token)},` : ''}`,
      '});',
      'client.on("message", ({ payload }) => console.log(payload));',
      'await client.publish("hello");',
    ].join('\n')],
    [words.samples.webSocket, [
      `const socket = new WebSocket(${js(socket + query)}${token ? `, ["wscast", ${js(`wscast.token.${token}`)}]` : ''});`,
      'socket.onopen = () => socket.send(JSON.stringify({ type: "message", payload: "hello" }));',
      'socket.onmessage = ({ data }) => console.log(JSON.parse(data));',
    ].join('\n')],
    ['Python', [
      'import asyncio, json, websockets  # pip install websockets',
      '',
      'async def main():',
      `    address = ${js(socket + query)}`,
      ...(token ? [`    headers = {"Authorization": ${js(`Bearer ${token}`)}}`] : []),
      `    async with websockets.connect(address${token ? ', additional_headers=headers' : ''}) as socket:`,
      '        await socket.send(json.dumps({"type": "message", "payload": "hello"}))',
      '        async for text in socket:',
      '            print(json.loads(text))',
      '',
      'asyncio.run(main())',
    ].join('\n')],
    [words.samples.shell, [
      ...(token ? [`export WSCAST_TOKEN=${shell(token)}`] : []),
      `wscast sub --url ${shell(base)} ${shell(room)}`,
      `wscast pub --url ${shell(base)} ${shell(room)} hello`,
    ].join('\n')],
  ];
}

/** Quotes a text for a shell, unless it needs no quotes. @param {string} text */
function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
}
