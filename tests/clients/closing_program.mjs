// A program with a client, for the test that it ends: node closing_program.mjs URL MODE. It says when the
// client is as the mode wants it, and closes it when it is told to. Its requests may wait for minutes.

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
console.log("there");
await once(process.stdin, "data");
client.close();
