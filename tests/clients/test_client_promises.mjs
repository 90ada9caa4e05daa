// How assets/client.js handles missing messages and requests.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EPOCH, OTHER_EPOCH, mayReject, outcome, settled, startClient } from "./scripted.mjs";

describe("missing messages", () => {
  test("the client drops duplicates", async (t) => {
    const { socket, received } = await startClient(t);
    socket().welcome();
    for (const offset of [1, 2, 2, 1, 3]) socket().message(offset);
    assert.deepEqual(received("message").map(({ payload }) => payload), [1, 2, 3]);
  });

  test("the client refetches missing messages", async (t) => {
    const { socket, received } = await startClient(t);
    socket().welcome();
    for (const offset of [1, 4, 5]) socket().message(offset);
    assert.deepEqual(received("message").map(({ payload }) => payload), [1], "no message after the missing ones");
    const [join, ...others] = socket().takeSent("join");
    assert.deepEqual(others, []);
    assert.deepEqual([join.room, join.since, join.epoch], ["lobby", 1, EPOCH]);

    socket().deliver({ type: "joined", id: join.id, room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 } });
    for (const offset of [2, 3, 4, 5, 6]) socket().message(offset);
    assert.deepEqual(received("message").map(({ payload }) => payload), [1, 2, 3, 4, 5, 6]);
    assert.equal(received("recovered").length, 1);
    assert.deepEqual(received("gap"), []);
  });

  for (const [how, reply] of [
    ["refused", { type: "error", payload: { code: "storage_unavailable", message: "no" } }],
    ["without a reply", null],
  ]) {
    test(`missing messages are a gap if their refetch is ${how}`, async (t) => {
      const { socket, received, advance } = await startClient(t);
      socket().welcome();
      for (const offset of [1, 4, 5]) socket().message(offset);
      const [{ id }] = socket().takeSent("join");
      if (reply) socket().deliver({ ...reply, id });
      else {
        await advance(14_999);
        socket().deliver({ type: "pong", payload: {} });
        await advance(1);
      }
      assert.deepEqual(received("gap"), [{ room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: EPOCH, offset: 5 } }]);
      socket().message(6);
      assert.deepEqual(received("message").map(({ payload }) => payload), [1, 6]);
    });
  }

  test("the client gives up a refetch that brings nothing", async (t) => {
    const { socket, received } = await startClient(t);
    socket().welcome();
    let joins = 0;
    for (let n = 0; n < 20; n += 1) {
      socket().message(5);
      for (const { id } of socket().takeSent("join")) {
        joins += 1;
        socket().deliver({ type: "joined", id, room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 } });
      }
    }
    assert.equal(joins, 3);
    assert.deepEqual(received("gap").map(({ to }) => to.offset), [5]);
  });

  test("messages that the server no longer has are a gap", async (t) => {
    const { client, socket, received, advance } = await startClient(t);
    socket().welcome();
    socket().message(1);
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 900, recovered: false, members: 1 }]);
    assert.deepEqual(received("gap"), [{ room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: EPOCH, offset: 900 } }]);
    assert.deepEqual(client.position("lobby"), { epoch: EPOCH, offset: 900 });
    socket().message(901);
    assert.equal(received("message").at(-1).payload, 901);
  });

  test("a restarted room is a gap, and its new messages are fetched", async (t) => {
    for (const recovered of [true, false]) {
      const { client, socket, received, advance } = await startClient(t);
      socket().welcome();
      socket().message(1);
      socket().closeByServer(1006);
      await advance(1_000);
      const state = { room: "lobby", epoch: OTHER_EPOCH, offset: 3, recovered: false, members: 1 };
      socket().welcome([state]);
      const gap = { room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: OTHER_EPOCH, offset: 0 } };
      assert.deepEqual(received("gap"), [gap]);
      const [{ id, since, epoch }] = socket().takeSent("join");
      assert.deepEqual([since, epoch], [0, OTHER_EPOCH]);
      socket().message(4);
      socket().deliver({ type: "joined", id, room: "lobby", payload: { ...state, offset: recovered ? 0 : 4, recovered } });
      for (const offset of recovered ? [1, 2, 3, 4, 5] : [5]) socket().message(offset);
      assert.deepEqual(received("message").map(({ payload }) => payload), recovered ? [1, 1, 2, 3, 4, 5] : [1, 5]);
      const rest = { room: "lobby", from: { epoch: OTHER_EPOCH, offset: 0 }, to: { epoch: OTHER_EPOCH, offset: 4 } };
      assert.deepEqual(received("gap"), recovered ? [gap] : [gap, rest]);
      client.close();
      t.mock.timers.reset();
    }
  });

  test("presence is requested on every connection, and missing messages in its reply are fetched", async (t) => {
    const { socket, advance, received } = await startClient(t, { rooms: [{ room: "lobby", presence: true }] });
    socket().welcome();
    assert.deepEqual(socket().takeSent("join").map(({ room, presence, since }) => [room, presence, since]), [["lobby", true, undefined]]);
    socket().message(1);
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 }]);
    const [{ id }, ...others] = socket().takeSent("join");
    assert.deepEqual(others, []);
    const state = { room: "lobby", epoch: EPOCH, offset: 3, recovered: false, members: 2 };
    socket().deliver({ type: "joined", id, room: "lobby", payload: state });
    assert.deepEqual(socket().takeSent("join").map(({ since, epoch }) => [since, epoch]), [[1, EPOCH]]);
    assert.deepEqual(received("gap"), []);
    assert.equal(received("joined").length, 2, "once for each connection");
  });

  test("a refused rejoin is retried later", async (t) => {
    const rooms = ["a", "b"];
    const { client, socket, received, advance } = await startClient(t, { rooms });
    socket().welcome();
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([{ room: "a", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    const [{ id }] = socket().takeSent("join");
    socket().deliver({ type: "error", id, payload: { code: "too_many_rooms", message: "full" } });
    assert.deepEqual(received("error").map(({ code, room }) => [code, room]), [["too_many_rooms", "b"]]);
    assert.deepEqual(client.rooms, rooms);
    await advance(5_000);
    const [again] = socket().takeSent("join");
    assert.deepEqual([again.room, again.since], ["b", 0]);
  });
});

describe("requests", () => {
  test("a request is sent again on the next connection, and times out", async (t) => {
    const { client, socket, advance } = await startClient(t);
    const history = mayReject(client.history("lobby", { limit: 5 }));
    socket().welcome();
    assert.equal(socket().takeSent("history")[0].limit, 5);
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome();
    const [{ id }] = socket().takeSent("history");
    socket().deliver({ type: "history", id, room: "lobby", payload: { messages: [] } });
    assert.deepEqual((await history).messages, []);

    const presence = mayReject(client.presence("lobby"));
    await advance(15_000);
    assert.equal(await outcome(presence), "timeout");
  });

  test("a join is sent with the next connection, and times out without one", async (t) => {
    const { client, socket, advance, received } = await startClient(t, { requestTimeout: 5_000 });
    socket().welcome();
    socket().closeByServer(1006);
    const joined = mayReject(client.join("ops"));
    await advance(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["lobby", "ops"]);
    socket().welcome();
    assert.equal((await joined).room, "ops");

    socket().closeByServer(1006);
    const late = mayReject(client.join("late"));
    await advance(2_000);
    await advance(3_000);
    assert.equal(await outcome(late), "timeout");
    assert.deepEqual(client.rooms, ["lobby", "ops"]);
    assert.deepEqual(received("left").map(({ room }) => room), ["late"]);
  });

  test("a join with since is repeated on the next connection", async (t) => {
    const { client, socket, advance, received } = await startClient(t);
    socket().welcome();
    for (const offset of [1, 2, 3]) socket().message(offset);
    const joined = client.join("lobby", { since: 1 });
    assert.equal(socket().takeSent("join")[0].since, 1);
    socket().closeByServer(1006);
    await advance(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("since"), ["1"]);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 }]);
    assert.equal((await joined).offset, 1);
    for (const offset of [2, 3]) socket().message(offset);
    assert.deepEqual(received("message").map(({ payload }) => payload), [1, 2, 3, 2, 3]);
  });

  test("a join with since during an attempt is sent after the welcome", async (t) => {
    const { client, socket, received } = await startClient(t, { rooms: [{ room: "lobby", since: 5, epoch: EPOCH }] });
    const joined = client.join("lobby", { since: 1, epoch: EPOCH });
    const state = { room: "lobby", epoch: EPOCH, offset: 5, recovered: true, members: 1 };
    socket().welcome([state]);
    socket().message(6);
    const [{ id, since }, ...others] = socket().takeSent("join");
    assert.equal(since, 1);
    assert.deepEqual(others, []);
    socket().deliver({ type: "joined", id, room: "lobby", payload: { ...state, offset: 1 } });
    assert.equal((await joined).offset, 1);
    for (const offset of [2, 3, 4, 5, 6]) socket().message(offset);
    assert.deepEqual(received("message").map(({ payload }) => payload), [2, 3, 4, 5, 6]);
    assert.deepEqual(received("gap"), []);
  });

  test("authenticate sends the token, and rejects if the server does not support it", async (t) => {
    const { client, socket } = await startClient(t, { token: () => "t" });
    socket().welcome();
    const known = client.authenticate();
    await settled();
    const [first] = socket().takeSent("auth");
    assert.equal(first.token, "t");
    socket().deliver({ type: "authenticated", id: first.id, payload: { sub: "alice" } });
    assert.deepEqual(await known, { sub: "alice" });
    const unknown = client.authenticate();
    await settled();
    socket().deliver({ type: "error", id: socket().takeSent("auth")[0].id, payload: { code: "unknown_type", message: "?" } });
    assert.equal(await outcome(unknown), "unknown_type");
  });
});
