// The state that a client shows to the members of a room: it survives reconnects.

import assert from "node:assert/strict";
import { test } from "node:test";

import { mayReject, outcome, startClient } from "./scripted.mjs";
import { startAliceAndBob } from "./person.mjs";

test("the state is sent with the join, when it changes, and after a reconnect", async (t) => {
  const { client, socket, advance } = await startClient(t, { rooms: [{ room: "ops", state: { mood: 1 } }] });
  socket().welcome();
  const [join] = socket().takeSent("join");
  assert.deepEqual(join.state, { mood: 1 });
  assert.equal(join.since, undefined);

  const shown = client.setState("ops", { typing: true });
  const [{ id, room, state }] = socket().takeSent("state");
  assert.deepEqual([room, state], ["ops", { typing: true }]);
  socket().deliver({ type: "state", id, room: "ops", payload: { room: "ops" } });
  assert.deepEqual(await outcome(shown), { room: "ops" });

  socket().closeByServer(1006);
  assert.deepEqual(await outcome(client.setState("ops", "away")), { room: "ops" });
  await advance(1_000);
  socket().welcome();
  assert.deepEqual(socket().takeSent("join").map(({ state }) => state), ["away"]);
  assert.deepEqual(socket().takeSent("state"), []);

  mayReject(client.setState("ops", null));
  assert.deepEqual(socket().takeSent("state").map(({ state }) => state), [null]);
  socket().closeByServer(1006);
  await advance(2_000);
  socket().welcome();
  assert.deepEqual(socket().takeSent("join"), []);
});

test("a state in a room that the client is not in is refused", async (t) => {
  const { client, socket } = await startClient(t);
  socket().welcome();
  assert.equal(await outcome(client.setState("ops", 1)), "not_in_room");
});

test("a state that is too long is refused by the server, and others see one that is not", async (t) => {
  const { alice, bob } = await startAliceAndBob(t);
  await assert.rejects(alice.client.setState("lobby", "x".repeat(300)), { code: "state_too_large" });
  await alice.client.setState("lobby", { typing: true });
  const { clients } = await bob.client.presence("lobby");
  const { state, since } = clients.find(({ client }) => client === alice.client.clientId);
  assert.deepEqual(state, { typing: true });
  assert.ok(Math.abs(since - Date.now()) < 60_000, since);
});
