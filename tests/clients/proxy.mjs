// A TCP proxy before a server: it cuts connections, lets them hang, refuses them, swallows answers.

import { once } from "node:events";
import net from "node:net";

export class Proxy {
  /** The port that connections go to; a server that is started again has another one. */
  target;
  /** How connections are treated: `pass`, `refuse` or `hang` (accepted, and never answered). */
  mode = "pass";
  /** Gives after how many bytes, in whichever direction, a new connection is cut. */
  cutAfter = () => Infinity;
  /** Connections cut so far. */
  cuts = 0;
  #links = new Set();
  #listener;

  /** Starts one that ends with the test `t`. */
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

  /** Open connections. */
  get links() {
    return this.#links.size;
  }

  /** Ends every connection, as a network that changes would. */
  cut() {
    for (const link of [...this.#links]) link.cut();
  }

  /** Every connection there is stays open and carries nothing more: a link that is half open. */
  stall() {
    for (const link of this.#links) link.stalled = true;
  }

  /** What the server says is lost from now on; what it is told arrives. */
  swallowAnswers() {
    for (const link of this.#links) link.swallows = true;
  }

  #accept(client) {
    client.on("error", () => {});
    if (this.mode === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const server = this.mode === "hang" ? null : net.connect(this.target, "127.0.0.1");
    const link = { client, server, stalled: this.mode === "hang", swallows: false, left: this.cutAfter(), cut: () => {} };
    link.cut = () => {
      if (!this.#links.delete(link)) return;
      this.cuts += 1;
      client.resetAndDestroy();
      server?.destroy();
    };
    this.#links.add(link);
    client.on("data", (bytes) => this.#carry(link, bytes, server));
    server?.on("data", (bytes) => this.#carry(link, bytes, link.swallows ? null : client));
    for (const socket of [client, server]) {
      socket?.on("error", () => {});
      socket?.on("close", () => { if (!link.stalled) link.cut(); });
    }
  }

  #carry(link, bytes, to) {
    if (link.stalled || !to) return;
    to.write(bytes.subarray(0, link.left));
    link.left -= bytes.length;
    if (link.left <= 0) link.cut();
  }
}
