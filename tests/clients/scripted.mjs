// A client with a scripted clock and scripted sockets: tests skip minutes, and send any frame as the server.

import assert from "node:assert/strict";

import { WscastClient } from "../../assets/client.js";

export const EPOCH = "0123456789abcdef";
export const OTHER_EPOCH = "fedcba9876543210";

/** A WebSocket whose server is the test. */
export class Socket {
  readyState = 0;
  /** The frames that the client sent and `takeSent` has not returned yet. */
  sent = [];

  constructor(url, sockets) {
    this.url = new URL(url);
    sockets.push(this);
  }

  send(text) {
    assert.equal(this.readyState, 1, "sent on a socket that is not open");
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  // What the server does

  /** Sends the welcome. Its rooms are those in the address by default. */
  welcome(rooms, client = "c0-1") {
    const wanted = this.url.searchParams.getAll("room");
    this.readyState = 1;
    this.deliver({
      type: "message", payload: "hi", from: "server", client,
      rooms: rooms ?? wanted.map((room) => ({ room, epoch: EPOCH, offset: 0, recovered: false, members: 1 })),
    });
  }

  deliver(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  message(offset, room = "lobby") {
    this.deliver({ type: "message", payload: offset, room, offset, from: "c0-9", ts: 0 });
  }

  closeByServer(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** Returns the frames of a type that the client sent since the last call. */
  takeSent(type) {
    const taken = this.sent.filter((frame) => frame.type === type);
    this.sent = this.sent.filter((frame) => frame.type !== type);
    return taken;
  }
}

/** Starts a client with scripted sockets and clock. A random value of 1 makes every wait the longest one. */
export async function startClient(t, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const sockets = [];
  const events = [];
  const client = new WscastClient("http://server/ws", {
    WebSocket: class extends Socket {
      constructor(url) {
        super(url, sockets);
      }
    },
    random: () => 1,
    ...options,
  });
  t.after(() => client.close());
  for (const name of ["state", "message", "joined", "left", "recovered", "gap", "error", "other"]) {
    client.on(name, (event) => events.push({ name, event }));
  }
  const received = (name) => events.filter((event) => event.name === name).map(({ event }) => event);
  const advance = async (ms) => {
    t.mock.timers.tick(ms);
    await settled();
  };
  await settled();
  return { client, sockets, received, advance, socket: () => sockets.at(-1) };
}

/** Waits until every promise that can settle has settled. */
export const settled = () => new Promise((done) => setImmediate(done));

/** Marks a promise as one that may be rejected before the test awaits it. */
export function mayReject(promise) {
  promise.catch(() => {});
  return promise;
}

/** Returns the value or error code of a promise, or `pending`. */
export async function outcome(promise) {
  return Promise.race([promise.then((value) => value, (error) => error.code ?? error.name), settled().then(() => "pending")]);
}

/** Replaces global variables until the test ends. */
export function replaceGlobals(t, globals) {
  for (const [name, value] of Object.entries(globals)) {
    const original = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => {
      if (original) Object.defineProperty(globalThis, name, original);
      else delete globalThis[name];
    });
  }
}

/** Installs a window and a document that fire events. */
export function pretendBrowser(t) {
  const [window, document] = [new EventTarget(), new EventTarget()];
  document.visibilityState = "visible";
  replaceGlobals(t, {
    document,
    addEventListener: window.addEventListener.bind(window),
    removeEventListener: window.removeEventListener.bind(window),
  });
  return { window, document };
}
