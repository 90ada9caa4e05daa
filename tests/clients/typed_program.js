// Not run, but checked by `tsc --checkJs`: correct uses of the client have types, and wrong uses are errors.

import { WscastClient, WscastError } from "../../assets/client.js";

const client = new WscastClient(new URL("ws://localhost/ws"), {
  rooms: ["lobby", { room: "ops", since: 3, epoch: "0123456789abcdef", presence: true }],
  token: async () => "token",
  publishTimeout: Infinity,
});

client
  .on("message", ({ room, payload, offset, own }) => console.log(room?.length, payload, offset?.toFixed(), own))
  .on("gap", ({ room, from, to }) => console.log(room.length, from.epoch, to.offset - from.offset))
  .on("presence", ({ room, members, clients }) => console.log(room.length, members + 1, clients?.[0].client, clients?.[0].user?.length, clients?.[0].since))
  .on("left", ({ room, error }) => console.log(room, error?.code, error?.retryAfterMs))
  .on("state", (state) => {
    if (state.name === "waiting") console.log(state.delay + state.at, state.reason.length);
    // @ts-expect-error: only the state `waiting` has a delay.
    if (state.name === "open") console.log(state.delay);
  });

/** Calls every method. */
export async function callEverything() {
  const { room, epoch, offset } = await client.publish({ any: ["thing"] }, { type: "custom_event", room: "ops" });
  const state = await client.join(room, { since: offset, epoch, presence: false });
  const { messages, contiguous } = await client.history(state.room, { since: 1, limit: 10 });
  console.log(messages.map(({ payload }) => payload), contiguous, (await client.presence(room)).members);
  const position = client.position(room);
  if (position) await client.join(room, { since: position.offset, epoch: position.epoch });
  const left = await client.leave(room);
  console.log(left.room.length, client.clientId?.length, client.rooms.length, client.waiting, client.state.name);
  try {
    await client.publishJson("{}");
  } catch (error) {
    if (error instanceof WscastError) console.log(error.code.length, error.retryAfterMs, error.room);
  }
  client.off("state", console.log).reconnect();
  client.close();
}

// @ts-expect-error: no such event.
client.on("mesage", () => {});
// @ts-expect-error: no such type of message.
client.publish("x", { type: "ping" });
// @ts-expect-error: an offset is a number.
client.join("ops", { since: "3" });
// @ts-expect-error: no such option.
new WscastClient("/ws", { rooom: ["ops"] });
// @ts-expect-error: the session is read-only.
client.session = 5;
