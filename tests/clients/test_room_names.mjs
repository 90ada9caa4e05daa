// The names of rooms: assets/client has the same rule as the server, and both keep names in normal form C.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { isRoomName, normalRoomName } from "../../assets/client/rooms.js";
import { startAliceAndBob } from "./person.mjs";

const EXAMPLES = JSON.parse(readFileSync(new URL("../room_names.json", import.meta.url), "utf8"));
const DECOMPOSED = "cafe\u0301";
const COMPOSED = "caf\u00e9";

test("the client allows and refuses the examples that the server does", () => {
  for (const { name, normal = name } of EXAMPLES.allowed) {
    assert.ok(isRoomName(name), JSON.stringify(name));
    assert.equal(normalRoomName(name), normal);
  }
  for (const { name } of EXAMPLES.refused) assert.ok(!isRoomName(name), JSON.stringify(name));
  for (const [name, fits] of [["é".repeat(64), true], ["é".repeat(65), false], [DECOMPOSED.repeat(16), true], ["\u0958".repeat(33), false]]) {
    assert.equal(isRoomName(name), fits, name);
  }
  for (const noText of [undefined, null, 7, {}]) assert.ok(!isRoomName(noText));
});

test("the server joins, delivers and leaves rooms with names of any script", async (t) => {
  const { alice, bob } = await startAliceAndBob(t);
  for (const { name, normal = name } of EXAMPLES.allowed) {
    // A server without keys has no users, and so no rooms of theirs.
    if (normal === "lobby" || normal.startsWith("@")) continue;
    const state = await alice.client.join(name);
    assert.equal(state.room, normal);
    await bob.client.join(normal);
    await bob.client.publish("hi", { room: normal });
    await alice.receives(normal, ["hi"]);
    await Promise.all([alice.client.leave(name), bob.client.leave(normal)]);
  }
});

test("both spellings of a name are one room for every call", async (t) => {
  const { alice } = await startAliceAndBob(t);
  await alice.client.join(DECOMPOSED);
  assert.deepEqual(alice.client.rooms, ["lobby", COMPOSED]);
  const stored = await alice.client.publish(1, { room: DECOMPOSED });
  assert.equal(stored.room, COMPOSED);
  await alice.receives(COMPOSED, [1]);
  assert.equal(alice.client.position(DECOMPOSED).offset, 1);
  assert.equal((await alice.client.history(DECOMPOSED)).messages.length, 1);
  assert.equal((await alice.client.presence(DECOMPOSED)).members, 1);
  await alice.client.leave(DECOMPOSED);
  assert.deepEqual(alice.client.rooms, ["lobby"]);
});
