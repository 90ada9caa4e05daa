// Lets Node run a client sample of the documentation as a browser would: modules and addresses are relative to the
// server that SERVER_URL names, and there is a WebSocket. FIELD_id is what the field `id` of the page contains.

import { createRequire, register } from 'node:module';
import { setImmediate } from 'node:timers/promises';

const server = process.env.SERVER_URL;
globalThis.location = new URL(server);
if (!globalThis.WebSocket) {
  globalThis.WebSocket = createRequire(`${process.cwd()}/`)('undici').WebSocket;
}

// The least of a page: a person fills in every empty field with "hello" and sends every form once, and what is added to
// the page is printed.
const elements = new Map();
const element = (value = 'hello') => ({
  value,
  textContent: '',
  append: async (added) => {
    await setImmediate();
    console.log(added.textContent ?? added);
  },
  addEventListener: (name, listener) => name === 'submit' && setTimeout(listener, 0, { preventDefault() {} }),
});
globalThis.document = {
  createElement: () => element(),
  getElementById(id) {
    if (!elements.has(id)) elements.set(id, element(process.env[`FIELD_${id}`]));
    return elements.get(id);
  },
};

const hooks = `
  export async function resolve(specifier, context, next) {
    const served = specifier.startsWith('/assets/') || specifier.startsWith('http:') || context.parentURL?.startsWith('http:');
    if (!served) return next(specifier, context);
    const base = context.parentURL?.startsWith('http:') ? context.parentURL : ${JSON.stringify(server)};
    return { url: new URL(specifier, base).href, format: 'module', shortCircuit: true };
  }
  export async function load(url, context, next) {
    if (!url.startsWith('http:')) return next(url, context);
    const response = await fetch(url);
    if (!response.ok) throw new Error(url + ' is ' + response.status);
    return { format: 'module', source: await response.text(), shortCircuit: true };
  }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
