// Lets Node run a client sample of the documentation as a browser would: modules and addresses are relative to the
// server that SERVER_URL names, and there is a WebSocket.

import { createRequire, register } from 'node:module';

const server = process.env.SERVER_URL;
globalThis.location = new URL(server);
if (!globalThis.WebSocket) {
  globalThis.WebSocket = createRequire(`${process.cwd()}/`)('undici').WebSocket;
}

const hooks = `
  export async function resolve(specifier, context, next) {
    const served = specifier.startsWith('/assets/') || context.parentURL?.startsWith('http:');
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
