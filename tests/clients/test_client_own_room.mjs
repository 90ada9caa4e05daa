// The room of the token's user: the client learns its name from the server, and keeps it like any other room.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EPOCH, startClient } from "./scripted.mjs";

const state = (room, offset = 0) => ({ room, epoch: EPOCH, offset, recovered: false, members: 1 });

describe("the room of the token's user", () => {
  test("it is asked for, becomes known, and resumes", async (t) => {
    const { client, socket, received, advance } = await startClient(t, { me: true });
    assert.equal(socket().url.searchParams.get("me"), "1");
    assert.deepEqual(socket().url.searchParams.getAll("room"), []);
    socket().welcome([state("@alice", 4)]);
    assert.deepEqual(client.rooms, ["@alice"]);
    assert.deepEqual(received("joined").map(({ room }) => room), ["@alice"]);
    socket().message(5, "@alice");
    assert.deepEqual(received("message").map(({ payload }) => payload), [5]);
    socket().closeByServer(1006);
    await advance(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["@alice"]);
    assert.equal(socket().url.searchParams.get("since"), "5");
  });

  test("it stands beside other rooms, once", async (t) => {
    const { client, socket } = await startClient(t, { me: true, rooms: ["ops", "@alice"] });
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["ops", "@alice"]);
    socket().welcome([state("ops"), state("@alice")]);
    assert.deepEqual(client.rooms, ["ops", "@alice"]);
    assert.deepEqual(socket().takeSent("join"), []);
  });

  test("it is left for good when the program leaves it", async (t) => {
    const { client, socket, advance } = await startClient(t, { me: true });
    socket().welcome([state("@alice")]);
    client.leave("@alice").catch(() => {});
    assert.deepEqual(client.rooms, []);
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([state("@alice")]);
    assert.deepEqual(client.rooms, []);
    assert.deepEqual(socket().takeSent("leave").map(({ room }) => room), ["@alice"]);
  });

  test("the address may ask for it, and other rooms of users are not taken for it", async (t) => {
    const { client, socket } = await startClient(t, { rooms: [] });
    socket().welcome([state("lobby"), state("@alice")]);
    assert.deepEqual(client.rooms, []);
    assert.deepEqual(socket().takeSent("leave").map(({ room }) => room), ["lobby", "@alice"]);
  });
});
