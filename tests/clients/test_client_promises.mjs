// What assets/client.js does with what is missing, what is published and what is asked.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WscastClient } from "../../assets/client.js";
import { EPOCH, OTHER_EPOCH, Socket, expected, outcome, scene, settled } from "./scripted.mjs";

describe("what is missing", () => {
  test("what came already is dropped", async (t) => {
    const { socket, told } = await scene(t);
    socket().welcome();
    for (const offset of [1, 2, 2, 1, 3]) socket().message(offset);
    assert.deepEqual(told("message").map(({ payload }) => payload), [1, 2, 3]);
  });

  test("a hole is mended: the room is joined again from before it", async (t) => {
    const { socket, told } = await scene(t);
    socket().welcome();
    for (const offset of [1, 4, 5]) socket().message(offset);
    assert.deepEqual(told("message").map(({ payload }) => payload), [1], "nothing from behind the hole");
    const [join, ...others] = socket().heard("join");
    assert.deepEqual(others, []);
    assert.deepEqual([join.room, join.since, join.epoch], ["lobby", 1, EPOCH]);

    socket().tell({ type: "joined", id: join.id, room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 } });
    for (const offset of [2, 3, 4, 5, 6]) socket().message(offset);
    assert.deepEqual(told("message").map(({ payload }) => payload), [1, 2, 3, 4, 5, 6]);
    assert.equal(told("recovered").length, 1);
    assert.deepEqual(told("gap"), []);
  });

  for (const [how, answer] of [
    ["refused", { type: "error", payload: { code: "storage_unavailable", message: "no" } }],
    ["not answered", null],
  ]) {
    test(`a hole whose mending is ${how} is reported`, async (t) => {
      const { socket, told, pass } = await scene(t);
      socket().welcome();
      for (const offset of [1, 4, 5]) socket().message(offset);
      const [{ id }] = socket().heard("join");
      if (answer) socket().tell({ ...answer, id });
      else {
        await pass(14_999);
        socket().tell({ type: "pong", payload: {} });
        await pass(1);
      }
      assert.deepEqual(told("gap"), [{ room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: EPOCH, offset: 5 } }]);
      socket().message(6);
      assert.deepEqual(told("message").map(({ payload }) => payload), [1, 6]);
    });
  }

  test("a server that never mends a hole is not asked for ever", async (t) => {
    const { socket, told } = await scene(t);
    socket().welcome();
    let joins = 0;
    for (let n = 0; n < 20; n += 1) {
      socket().message(5);
      for (const { id } of socket().heard("join")) {
        joins += 1;
        socket().tell({ type: "joined", id, room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 } });
      }
    }
    assert.equal(joins, 3);
    assert.deepEqual(told("gap").map(({ to }) => to.offset), [5]);
  });

  test("what the server no longer has is reported with its place", async (t) => {
    const { client, socket, told, pass } = await scene(t);
    socket().welcome();
    socket().message(1);
    socket().end(1006);
    await pass(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 900, recovered: false, members: 1 }]);
    assert.deepEqual(told("gap"), [{ room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: EPOCH, offset: 900 } }]);
    assert.deepEqual(client.position("lobby"), { epoch: EPOCH, offset: 900 });
    socket().message(901);
    assert.equal(told("message").at(-1).payload, 901);
  });

  test("a room that has started anew: its past is a gap, what it has since is fetched", async (t) => {
    for (const recovered of [true, false]) {
      const { client, socket, told, pass } = await scene(t);
      socket().welcome();
      socket().message(1);
      socket().end(1006);
      await pass(1_000);
      const state = { room: "lobby", epoch: OTHER_EPOCH, offset: 3, recovered: false, members: 1 };
      socket().welcome([state]);
      const gap = { room: "lobby", from: { epoch: EPOCH, offset: 1 }, to: { epoch: OTHER_EPOCH, offset: 0 } };
      assert.deepEqual(told("gap"), [gap]);
      const [{ id, since, epoch }] = socket().heard("join");
      assert.deepEqual([since, epoch], [0, OTHER_EPOCH]);
      socket().message(4);
      socket().tell({ type: "joined", id, room: "lobby", payload: { ...state, offset: recovered ? 0 : 4, recovered } });
      for (const offset of recovered ? [1, 2, 3, 4, 5] : [5]) socket().message(offset);
      assert.deepEqual(told("message").map(({ payload }) => payload), recovered ? [1, 1, 2, 3, 4, 5] : [1, 5]);
      const rest = { room: "lobby", from: { epoch: OTHER_EPOCH, offset: 0 }, to: { epoch: OTHER_EPOCH, offset: 4 } };
      assert.deepEqual(told("gap"), recovered ? [gap] : [gap, rest]);
      client.close();
      t.mock.timers.reset();
    }
  });

  test("presence is asked for on every connection, and what that answer shows to be missing is fetched", async (t) => {
    const { socket, pass, told } = await scene(t, { rooms: [{ room: "lobby", presence: true }] });
    socket().welcome();
    assert.deepEqual(socket().heard("join").map(({ room, presence, since }) => [room, presence, since]), [["lobby", true, undefined]]);
    socket().message(1);
    socket().end(1006);
    await pass(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 }]);
    const [{ id }, ...others] = socket().heard("join");
    assert.deepEqual(others, []);
    const state = { room: "lobby", epoch: EPOCH, offset: 3, recovered: false, members: 2 };
    socket().tell({ type: "joined", id, room: "lobby", payload: state });
    assert.deepEqual(socket().heard("join").map(({ since, epoch }) => [since, epoch]), [[1, EPOCH]]);
    assert.deepEqual(told("gap"), []);
    assert.equal(told("joined").length, 2, "once a connection");
  });

  test("a room that cannot be joined again now is tried again later", async (t) => {
    const rooms = ["a", "b"];
    const { client, socket, told, pass } = await scene(t, { rooms });
    socket().welcome();
    socket().end(1006);
    await pass(1_000);
    socket().welcome([{ room: "a", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    const [{ id }] = socket().heard("join");
    socket().tell({ type: "error", id, payload: { code: "too_many_rooms", message: "full" } });
    assert.deepEqual(told("error").map(({ code, room }) => [code, room]), [["too_many_rooms", "b"]]);
    assert.deepEqual(client.rooms, rooms);
    await pass(5_000);
    const [again] = socket().heard("join");
    assert.deepEqual([again.room, again.since], ["b", 0]);
  });
});

describe("publishing", () => {
  const ack = (socket, { id, room }, offset, epoch = EPOCH) => {
    socket.tell({ type: "ack", id, room, payload: { room, epoch, offset } });
  };

  test("what waits has a bound, and beyond it is an error", async (t) => {
    const { client, socket } = await scene(t, { publishQueueMax: 3 });
    const published = [1, 2, 3].map((n) => expected(client.publish(n)));
    assert.equal(await outcome(client.publish(4)), "queue_full");
    socket().welcome();
    const sent = socket().heard("message");
    assert.deepEqual(sent.map(({ payload }) => payload), [1, 2, 3]);
    sent.forEach((frame, index) => ack(socket(), frame, index + 1));
    assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3]);
    expected(client.publish(4));
    assert.equal(socket().heard("message").length, 1);
  });

  test("no more than a hundred are under way", async (t) => {
    const { client, socket } = await scene(t);
    socket().welcome();
    for (let n = 1; n <= 250; n += 1) client.publish(n).catch(() => {});
    const sent = socket().heard("message");
    assert.equal(sent.length, 100);
    ack(socket(), sent[0], 1);
    assert.deepEqual(socket().heard("message").map(({ payload }) => payload), [101]);
  });

  test("what was not acknowledged is sent again with the same id, in the first order", async (t) => {
    const { client, socket, pass } = await scene(t);
    socket().welcome();
    const published = [1, 2, 3].map((n) => expected(client.publish(n)));
    const first = socket().heard("message");
    ack(socket(), first[1], 2);
    socket().end(1006);
    published.push(client.publish(4));
    await pass(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    const second = socket().heard("message");
    assert.deepEqual(second.map(({ payload }) => payload), [1, 3, 4]);
    assert.deepEqual(second.slice(0, 2).map(({ id }) => id), [first[0].id, first[2].id]);
    second.forEach((frame, index) => ack(socket(), frame, [1, 3, 4][index]));
    assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3, 4]);
  });

  test("one whose id the server may have forgotten is not sent again, one that was never sent is", async (t) => {
    const { client, socket, pass } = await scene(t, { publishTimeout: Infinity, heartbeatInterval: Infinity });
    socket().welcome();
    const doubtful = expected(client.publish("sent before"));
    assert.equal(socket().heard("message").length, 1);
    socket().end(1006);
    const fresh = expected(client.publish("never sent"));
    await pass(1_000);
    // A long outage: nobody answers for four minutes.
    for (let minute = 0; minute < 16; minute += 1) {
      socket().end(1006);
      await pass(20_000);
    }
    assert.equal(await outcome(doubtful), "waits");
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    assert.deepEqual(socket().heard("message").map(({ payload }) => payload), ["never sent"]);
    assert.equal(await outcome(doubtful), "unknown_outcome");
    assert.equal(await outcome(fresh), "waits");
    client.close();
    assert.equal(await outcome(fresh), "unknown_outcome");
  });

  test("nor is one that a server had which has started anew since", async (t) => {
    const { client, socket, pass } = await scene(t);
    socket().welcome();
    const doubtful = expected(client.publish("sent before"));
    socket().end(1006);
    const fresh = expected(client.publish("never sent"));
    await pass(1_000);
    socket().welcome([{ room: "lobby", epoch: OTHER_EPOCH, offset: 0, recovered: false, members: 1 }]);
    const sent = socket().heard("message");
    assert.deepEqual(sent.map(({ payload }) => payload), ["never sent"]);
    ack(socket(), sent[0], 1, OTHER_EPOCH);
    assert.equal(await outcome(doubtful), "unknown_outcome");
    assert.equal((await fresh).epoch, OTHER_EPOCH);
  });

  test("time runs out: what was never sent was not published, of the rest it is not known", async (t) => {
    const { client, socket, pass } = await scene(t, { publishTimeout: 30_000, heartbeatInterval: Infinity });
    const never = expected(client.publish("never sent"));
    socket().end(1006);
    await pass(10_000);
    await pass(15_000);
    await pass(5_000);
    assert.equal(await outcome(never), "timeout");
    socket().welcome();
    const sent = expected(client.publish("sent"));
    await pass(30_000);
    assert.equal(await outcome(sent), "unknown_outcome");
    assert.equal(client.waiting, 0);
  });

  for (const code of ["storage_unavailable", "rate_limited", "shutting_down"]) {
    test(`${code} passes: it is sent again after the time the server names`, async (t) => {
      const { client, socket, pass } = await scene(t);
      socket().welcome();
      const published = expected(client.publish("x"));
      const [first] = socket().heard("message");
      socket().tell({ type: "error", id: first.id, payload: { code, message: "later", retry_after_ms: 700 } });
      const next = expected(client.publish("y"));
      await pass(699);
      assert.deepEqual(socket().heard("message"), [], "nothing overtakes it");
      await pass(1);
      const again = socket().heard("message");
      assert.deepEqual(again.map(({ payload }) => payload), ["x", "y"]);
      assert.equal(again[0].id, first.id);
      again.forEach((frame, index) => ack(socket(), frame, index + 1));
      assert.equal((await published).offset, 1);
      assert.equal((await next).offset, 2);
    });
  }

  test("a refusal says that it was not published: the time in which it may be repeated begins anew", async (t) => {
    const { client, socket, pass } = await scene(t, { publishTimeout: Infinity, heartbeatInterval: Infinity });
    socket().welcome();
    expected(client.publish("x"));
    const [{ id }] = socket().heard("message");
    socket().tell({ type: "error", id, payload: { code: "rate_limited", message: "later", retry_after_ms: 230_000 } });
    await pass(230_000);
    assert.equal(socket().heard("message").length, 1);
    socket().end(1006);
    await pass(14_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    assert.equal(socket().heard("message").length, 1);
  });

  test("a room that is not joined yet is waited for, the others are not", async (t) => {
    const { client, socket } = await scene(t);
    socket().welcome();
    const joined = client.join("ops");
    expected(client.publish("to ops", { room: "ops" }));
    expected(client.publish("to lobby", { room: "lobby" }));
    assert.deepEqual(socket().heard("message").map(({ payload }) => payload), ["to lobby"]);
    const [{ id }] = socket().heard("join");
    socket().tell({ type: "joined", id, room: "ops", payload: { room: "ops", epoch: EPOCH, offset: 0, recovered: false, members: 1 } });
    await joined;
    assert.deepEqual(socket().heard("message").map(({ payload }) => payload), ["to ops"]);
  });

  test("a room that is left takes what waits for it with it", async (t) => {
    const { client, socket, pass } = await scene(t, { rooms: ["lobby", "ops"] });
    socket().welcome();
    const sent = expected(client.publish("sent", { room: "ops" }));
    socket().end(1006);
    const waits = expected(client.publish("waits", { room: "ops" }));
    await client.leave("ops");
    assert.equal(await outcome(waits), "not_in_room");
    assert.equal(await outcome(sent), "unknown_outcome");
    await pass(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["lobby"]);
  });

  test("every other refusal is the publisher's", async (t) => {
    const { client, socket } = await scene(t);
    socket().welcome();
    const published = expected(client.publish("x"));
    const [{ id }] = socket().heard("message");
    socket().tell({ type: "error", id, payload: { code: "too_deep", message: "too deep" } });
    await assert.rejects(published, { name: "WscastError", code: "too_deep", message: "too deep" });
  });

  test("one that is too large for the server goes, the others are sent again", async (t) => {
    const { client, socket, pass } = await scene(t);
    socket().welcome();
    const published = ["small", "x".repeat(1_000), "字".repeat(900), "small too"].map((text) => expected(client.publish(text)));
    socket().end(1009, "message too big");
    assert.equal(await outcome(published[2]), "message_too_large", "the largest in bytes");
    await pass(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    // This server says so before it closes: it is one message, not two.
    socket().tell({ type: "error", payload: { code: "message_too_large", message: "too large" } });
    socket().end(1009, "message too big");
    assert.equal(await outcome(published[1]), "message_too_large");
    assert.equal(await outcome(published[0]), "waits");
    assert.equal(await outcome(published[3]), "waits");
  });

  test("what cannot be published is refused before it is sent", async (t) => {
    const { client, socket } = await scene(t);
    socket().welcome();
    assert.equal(await outcome(client.publish(undefined)), "invalid_field");
    assert.equal(await outcome(client.publish("x", { room: "elsewhere" })), "not_in_room");
    assert.equal(await outcome(client.publish("x", { id: "字".repeat(22) })), "invalid_id");
    assert.equal(await outcome(client.publish("x", { type: "join" })), "unknown_type");
    expected(client.publish("x", { id: "mine" }));
    assert.equal(await outcome(client.publish("x", { id: "mine" })), "invalid_id");
    assert.equal(socket().heard("message").length, 1);
  });

  test("no two clients of a session draw the same id", async (t) => {
    const session = "a session that two tabs share";
    const { client, sockets } = await scene(t, { session });
    const other = new WscastClient("ws://server/ws", {
      session,
      WebSocket: class extends Socket {
        constructor(url) {
          super(url, sockets);
        }
      },
    });
    t.after(() => other.close());
    await settled();
    const ids = [client, other].map((each, index) => {
      sockets[index].welcome();
      expected(each.publish("x"));
      return sockets[index].heard("message")[0].id;
    });
    assert.notEqual(ids[0], ids[1]);
    assert.ok(ids.every((id) => id.length <= 64));
  });
});

describe("requests", () => {
  test("a question is asked again on the next connection, within its time", async (t) => {
    const { client, socket, pass } = await scene(t);
    const asked = expected(client.history("lobby", { limit: 5 }));
    socket().welcome();
    assert.equal(socket().heard("history")[0].limit, 5);
    socket().end(1006);
    await pass(1_000);
    socket().welcome();
    const [{ id }] = socket().heard("history");
    socket().tell({ type: "history", id, room: "lobby", payload: { messages: [] } });
    assert.deepEqual((await asked).messages, []);

    const unanswered = expected(client.presence("lobby"));
    await pass(15_000);
    assert.equal(await outcome(unanswered), "timeout");
  });

  test("a join is made with the next connection, and refused at its time if there is none", async (t) => {
    const { client, socket, pass, told } = await scene(t, { requestTimeout: 5_000 });
    socket().welcome();
    socket().end(1006);
    const joined = expected(client.join("ops"));
    await pass(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["lobby", "ops"]);
    socket().welcome();
    assert.equal((await joined).room, "ops");

    socket().end(1006);
    const late = expected(client.join("late"));
    await pass(2_000);
    await pass(3_000);
    assert.equal(await outcome(late), "timeout");
    assert.deepEqual(client.rooms, ["lobby", "ops"]);
    assert.deepEqual(told("left").map(({ room }) => room), ["late"]);
  });

  test("a past that was asked for is asked for again with the next connection", async (t) => {
    const { client, socket, pass, told } = await scene(t);
    socket().welcome();
    for (const offset of [1, 2, 3]) socket().message(offset);
    const joined = client.join("lobby", { since: 1 });
    assert.equal(socket().heard("join")[0].since, 1);
    socket().end(1006);
    await pass(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("since"), ["1"]);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 }]);
    assert.equal((await joined).offset, 1);
    for (const offset of [2, 3]) socket().message(offset);
    assert.deepEqual(told("message").map(({ payload }) => payload), [1, 2, 3, 2, 3]);
  });

  test("a past that is asked for while it connects is asked for after the welcome", async (t) => {
    const { client, socket, told } = await scene(t, { rooms: [{ room: "lobby", since: 5, epoch: EPOCH }] });
    const joined = client.join("lobby", { since: 1, epoch: EPOCH });
    const state = { room: "lobby", epoch: EPOCH, offset: 5, recovered: true, members: 1 };
    socket().welcome([state]);
    socket().message(6);
    const [{ id, since }, ...others] = socket().heard("join");
    assert.equal(since, 1);
    assert.deepEqual(others, []);
    socket().tell({ type: "joined", id, room: "lobby", payload: { ...state, offset: 1 } });
    assert.equal((await joined).offset, 1);
    for (const offset of [2, 3, 4, 5, 6]) socket().message(offset);
    assert.deepEqual(told("message").map(({ payload }) => payload), [2, 3, 4, 5, 6]);
    assert.deepEqual(told("gap"), []);
  });

  test("an in-band token is sent, and a server that knows none says so", async (t) => {
    const { client, socket } = await scene(t, { token: () => "t" });
    socket().welcome();
    const known = client.authenticate();
    await settled();
    const [first] = socket().heard("auth");
    assert.equal(first.token, "t");
    socket().tell({ type: "authenticated", id: first.id, payload: { sub: "alice" } });
    assert.deepEqual(await known, { sub: "alice" });
    const unknown = client.authenticate();
    await settled();
    socket().tell({ type: "error", id: socket().heard("auth")[0].id, payload: { code: "unknown_type", message: "?" } });
    assert.equal(await outcome(unknown), "unknown_type");
  });
});
