// A TCP proxy in front of a server: it can cut, stall and refuse connections, and drop replies.

import { once } from "node:events";
import net from "node:net";

export class Proxy {
  /** The port of the server. A restarted server has another one. */
  target;
  /** The treatment of connections: `pass`, `refuse` or `hang` (accepted, but nothing is sent). */
  mode = "pass";
  /** Returns after how many bytes, in both directions together, a new connection is cut. */
  cutAfter = () => Infinity;
  /** Connections cut so far. */
  cuts = 0;
  #connections = new Set();
  #listener;

  /** Starts a proxy that is closed when the test `t` ends. */
  static async start(t, target) {
    const proxy = new Proxy();
    proxy.target = target;
    proxy.#listener = net.createServer((client) => proxy.#accept(client));
    proxy.#listener.listen(0, "127.0.0.1");
    await once(proxy.#listener, "listening");
    t.after(() => {
      proxy.mode = "refuse";
      proxy.cut();
      proxy.#listener.close();
    });
    return proxy;
  }

  get ws() {
    return `ws://127.0.0.1:${this.#listener.address().port}/ws`;
  }

  /** The number of open connections. */
  get open() {
    return this.#connections.size;
  }

  /** Cuts every connection, like a change of network. */
  cut() {
    for (const connection of [...this.#connections]) connection.cut();
  }

  /** Leaves the present connections open, but carries nothing any more: they are half open. */
  stall() {
    for (const connection of this.#connections) connection.stalled = true;
  }

  /** Drops what the server sends on the present connections. What the client sends still arrives. */
  dropReplies() {
    for (const connection of this.#connections) connection.dropsReplies = true;
  }

  #accept(client) {
    client.on("error", () => {});
    if (this.mode === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const server = this.mode === "hang" ? null : net.connect(this.target, "127.0.0.1");
    const connection = { client, server, stalled: this.mode === "hang", dropsReplies: false, left: this.cutAfter(), cut: () => {} };
    connection.cut = () => {
      if (!this.#connections.delete(connection)) return;
      this.cuts += 1;
      client.resetAndDestroy();
      server?.destroy();
    };
    this.#connections.add(connection);
    client.on("data", (bytes) => this.#carry(connection, bytes, server));
    server?.on("data", (bytes) => this.#carry(connection, bytes, connection.dropsReplies ? null : client));
    for (const socket of [client, server]) {
      socket?.on("error", () => {});
      socket?.on("close", () => { if (!connection.stalled) connection.cut(); });
    }
  }

  #carry(connection, bytes, to) {
    if (connection.stalled || !to) return;
    to.write(bytes.subarray(0, connection.left));
    connection.left -= bytes.length;
    if (connection.left <= 0) connection.cut();
  }
}
