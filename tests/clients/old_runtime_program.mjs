// A program on a runtime like Node 18, which has no global `crypto`: it publishes a message and ends.

import { Socket } from "./scripted.mjs";

Object.defineProperty(globalThis, "crypto", { value: undefined, configurable: true });
const { WscastClient } = await import("../../assets/client/client.js");

const sockets = [];
const client = new WscastClient("ws://server/ws", {
  WebSocket: class extends Socket {
    constructor(url) {
      super(url, sockets);
      queueMicrotask(() => this.welcome());
    }
  },
});
client.on("welcome", () => queueMicrotask(() => {
  const [{ id }] = sockets[0].takeSent("message");
  sockets[0].deliver({ type: "ack", id, payload: { room: "lobby", epoch: "0", offset: 1 } });
}));
await client.publish("hello");
console.log("published");
client.close();
