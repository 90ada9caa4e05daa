// Clients of the original protocol and the real server, with every WebSocket class that there is: those of
// the packages `ws` and `undici`, and Node's own (22 and newer).

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

/** The documented client. Keeps the received frames in order. */
class Client {
  #frames = [];
  #waiting = [];
  errors = [];

  /** Connects, and waits until the socket is open. */
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

  /** Reads the welcome, the first frame of every connection. */
  async expectWelcome() {
    const welcome = await this.frame();
    assert.equal(welcome.type, "message");
    assert.equal(typeof welcome.payload, "string");
    return this;
  }
}

for (const [name, WebSocket] of Object.entries(implementations)) {
  const join = async (server, t) => (await Client.open(WebSocket, server.ws, t)).expectWelcome();

  describe(`subprotocols with the WebSocket of ${name}`, () => {
    /** Resolves with the subprotocol that the server has chosen, and with the first frame or the close. */
    const connect = (url, subprotocols) => withinDeadline(new Promise((resolve, reject) => {
      const socket = new WebSocket(url, subprotocols);
      socket.onmessage = ({ data }) => { resolve([socket.protocol, JSON.parse(data).from]); socket.close(); };
      socket.onclose = ({ code, reason }) => resolve([socket.protocol, code, reason]);
      socket.onerror = (error) => reject(new Error(`the handshake failed: ${error.message ?? error}`));
    }), "the welcome or the close");

    for (const [offers, chosen] of [
      [["wscast"], "wscast"],
      [["json", "wscast"], "wscast"],
      [["json", "v2.json"], "json"],
      ["null", "null"],
      [["wscast", "wscast.token.a.b.c"], "wscast"],
      [[], ""],
    ]) {
      test(`the server chooses ${chosen || "none"} of ${JSON.stringify(offers)}`, async (t) => {
        const server = await startServer(t);
        assert.deepEqual(await connect(server.ws, offers), [chosen, "server"]);
      });
    }
  });

  describe(`the original client with the WebSocket of ${name}`, () => {
    test("the client receives the welcome, and its own messages", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.sendMessage("你好, 🌍");
      await client.expect("message", "你好, 🌍");
      client.sendCustomEvent({ action: "wave", data: ["both", { hands: true }] });
      await client.expect("custom_event", { action: "wave", data: ["both", { hands: true }] });
      assert.deepEqual(client.errors, []);
    });

    test("the client receives the messages of others", async (t) => {
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

    test("the client receives an error and stays connected", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.socket.send("not json");
      assert.equal((await client.frame()).type, "error");
      client.sendMessage("still here");
      await client.expect("message", "still here");
    });

    test("the client closes the connection with its code", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      client.socket.close(1000, "done");
      const { code, wasClean } = await withinDeadline(client.closed, "onclose");
      assert.deepEqual({ code, wasClean }, { code: 1000, wasClean: true });
    });

    test("the client receives code 1001 when the server stops", async (t) => {
      const server = await startServer(t);
      const client = await join(server, t);

      server.terminate();
      const { code, wasClean } = await withinDeadline(client.closed, "onclose");
      assert.deepEqual({ code, wasClean }, { code: 1001, wasClean: true });
      assert.deepEqual(client.errors, []);
      assert.equal((await server.exited()).code, 0);
    });

    test("the client receives onerror if there is no server", async (t) => {
      const server = await startServer(t);
      server.terminate();
      await server.exited();

      await assert.rejects(Client.open(WebSocket, server.ws, t), /onerror before onopen/);
    });
  });
}
