// People with a client of a real server, and the network between them.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

import { WscastClient } from "../../assets/client.js";
import { Proxy } from "./proxy.mjs";
import { DEADLINE_MS, startServer } from "./server.mjs";

const modules = process.env.CLIENT_MODULES;
if (!modules) throw new Error("set CLIENT_MODULES to the node_modules folder, or run `make test-clients`");
export const require = createRequire(path.resolve(modules, "..", "package.json"));
export const { WebSocket } = require("ws");

/** Short waits, so that a test takes many attempts. */
const SHORT_BACKOFF = { backoffMin: 1, backoffMax: 20 };

/** A client that keeps the messages and events that it received. */
export class Person {
  /** The received payloads of each room, in order. */
  #payloads = new Map();
  /** The received messages of all rooms, in order. */
  messages = [];
  /** The events other than messages, in order. */
  events = [];

  static async connect(t, url, options = {}) {
    const person = new Person(t, url, options);
    await person.waitForState("open");
    return person;
  }

  constructor(t, url, options = {}) {
    this.client = new WscastClient(url, { WebSocket, ...SHORT_BACKOFF, ...options });
    t.after(() => this.client.close());
    for (const type of ["message", "custom_event"]) {
      this.client.on(type, (message) => {
        this.messages.push(message);
        this.received(message.room).push(message.payload);
      });
    }
    for (const name of ["state", "welcome", "joined", "left", "recovered", "gap", "presence", "ack", "error", "other"]) {
      this.client.on(name, (event) => this.events.push({ name, event }));
    }
  }

  received(room) {
    if (!this.#payloads.has(room)) this.#payloads.set(room, []);
    return this.#payloads.get(room);
  }

  eventsOf(name) {
    return this.events.filter((event) => event.name === name).map(({ event }) => event);
  }

  waitForState(name) {
    return eventually(`the state ${name}`, () => this.client.state.name === name);
  }

  /** Waits for the payloads of a room, and asserts that they are these, in this order, and no others. */
  async receives(room, payloads) {
    await eventually(`${payloads.length} messages of ${room}`, () => this.received(room).length >= payloads.length);
    assert.deepEqual(this.received(room), payloads);
  }
}

export async function eventually(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > end) assert.fail(`timed out waiting for: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

export const portOf = (server) => Number(new URL(server.ws).port);
export const numbers = (count, from = 1) => Array.from({ length: count }, (_, n) => from + n);

/** Starts a server and a proxy. Alice connects through the proxy, Bob directly. */
export async function startAliceAndBob(t, options = {}, ...flags) {
  const server = await startServer(t, ...flags);
  const proxy = await Proxy.start(t, portOf(server));
  const alice = await Person.connect(t, proxy.ws, options);
  const bob = await Person.connect(t, server.ws, { rooms: options.rooms });
  return { server, proxy, alice, bob };
}
