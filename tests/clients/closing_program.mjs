// A program that must end when its client is closed: node closing_program.mjs URL MODE. It prints a line once
// the client has reached the state that MODE needs, and closes the client when it reads a line. All timeouts
// are minutes, so that only `close` can end the program in time.

import { once } from "node:events";
import { createRequire } from "node:module";
import path from "node:path";

import { WscastClient } from "../../assets/client.js";

const [url, mode] = process.argv.slice(2);
const { WebSocket } = createRequire(path.resolve(process.env.CLIENT_MODULES, "..", "package.json"))("ws");
const client = new WscastClient(url, { WebSocket, requestTimeout: 300_000, publishTimeout: 300_000, backoffMin: 300_000, backoffMax: 300_000 });
const wanted = mode === "stalled" ? "open" : mode;
await new Promise((done) => client.on("state", ({ name }) => { if (name === wanted) done(); }));
if (wanted === "open") {
  await client.join("ops");
  await client.publish("hello");
} else {
  client.publish("hello").catch(() => {});
}
console.log("ready");
await once(process.stdin, "data");
client.close();
