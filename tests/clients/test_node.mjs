// JavaScript clients of the original protocol against the real binary, with every WebSocket class to be
// had: the packages `ws` and `undici`, and Node's own (22 and newer).

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { describe, test } from "node:test";

import { connectOriginalClient } from "./original_client.mjs";
import { startServer, withinDeadline } from "./server.mjs";

const modules = process.env.CLIENT_MODULES;
if (!modules) throw new Error("set CLIENT_MODULES to the node_modules folder, or run `make test-clients`");
const require = createRequire(path.resolve(modules, "..", "package.json"));

const implementations = { ws: require("ws").WebSocket, undici: require("undici").WebSocket };
if (globalThis.WebSocket) implementations["Node's own"] = globalThis.WebSocket;

/** The documented client, with what it is told kept in the order in which it came. */
class Client {
  #frames = [];
  #waiting = [];
  errors = [];

  /** Connects; resolves once the socket is open. */
  static open(WebSocket, url, t) {
    const client = new Client();
    client.closed = new Promise((resolve) => (client.onClose = resolve));
    const opened = new Promise((resolve, reject) => {
      connectOriginalClient(WebSocket, url, {
        onOpen: (api) => resolve(Object.assign(client, api)),
        onData: (frame) => client.#take(frame),
        onClose: (event) => client.onClose(event),
        onError: (error) => {
          client.errors.push(error);
          reject(new Error(`onerror before onopen: ${error.message ?? error}`));
        },
      });
    });
    t.after(() => client.socket?.close());
    return withinDeadline(opened, "onopen");
  }

  #take(frame) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(frame);
    else this.#frames.push(frame);
  }

  frame() {
    if (this.#frames.length > 0) return this.#frames.shift();
    return withinDeadline(new Promise((resolve) => this.#waiting.push(resolve)), "onmessage");
  }

  async expect(type, payload) {
    const frame = await this.frame();
    assert.deepEqual({ type: frame.type, payload: frame.payload }, { type, payload });
  }

  /** Reads the welcome, which is the first frame of every connection. */
  async expectWelcome() {
    const welcome = await this.frame();
    assert.equal(welcome.type, "message");
    assert.equal(typeof welcome.payload, "string");
    return this;
  }
}

for (const [name, WebSocket] of Object.entries(implementations)) {
  const join = async (server, t) => (await Client.open(WebSocket, server.ws, t)).expectWelcome();

  describe(`the documented client with the WebSocket of ${name}`, () => {
    test("reads the welcome, and then what it sends", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.sendMessage("你好, 🌍");
      await client.expect("message", "你好, 🌍");
      client.sendCustomEvent({ action: "wave", data: ["both", { hands: true }] });
      await client.expect("custom_event", { action: "wave", data: ["both", { hands: true }] });
      assert.deepEqual(client.errors, []);
    });

    test("sees what others send", async (t) => {
      const server = await startServer(t);
      const alice = await join(server, t);
      const bob = await join(server, t);

      alice.sendMessage("hello");
      await bob.expect("message", "hello");
      await alice.expect("message", "hello");
      bob.sendCustomEvent({ from: "bob" });
      await alice.expect("custom_event", { from: "bob" });
      await bob.expect("custom_event", { from: "bob" });
    });

    test("is answered an error and stays connected", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.socket.send("not json");
      assert.equal((await client.frame()).type, "error");
      client.sendMessage("still here");
      await client.expect("message", "still here");
    });

    test("closes when it wants to", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.socket.close(1000, "done");
      const { code, wasClean } = await withinDeadline(client.closed, "onclose");
      assert.deepEqual({ code, wasClean }, { code: 1000, wasClean: true });
    });

    test("is told by 1001 that the server leaves", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      server.terminate();
      const { code, wasClean } = await withinDeadline(client.closed, "onclose");
      assert.deepEqual({ code, wasClean }, { code: 1001, wasClean: true });
      assert.deepEqual(client.errors, []);
      assert.equal((await server.exited()).code, 0);
    });

    test("is told by onerror and onclose that no server is there", async (t) => {
      const server = await startServer(t);
      server.terminate();
      await server.exited();

      await assert.rejects(Client.open(WebSocket, server.ws, t), /onerror before onopen/);
    });
  });
}
