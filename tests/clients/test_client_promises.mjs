// How assets/client.js handles missing messages, publishes and requests.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WscastClient } from "../../assets/client.js";
import { EPOCH, OTHER_EPOCH, Socket, mayReject, outcome, startClient, settled } from "./scripted.mjs";

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

describe("publishing", () => {
  const ack = (socket, { id, room }, offset, epoch = EPOCH) => {
    socket.deliver({ type: "ack", id, room, payload: { room, epoch, offset } });
  };

  test("the queue has a limit", async (t) => {
    const { client, socket } = await startClient(t, { publishQueueMax: 3 });
    const published = [1, 2, 3].map((n) => mayReject(client.publish(n)));
    assert.equal(await outcome(client.publish(4)), "queue_full");
    socket().welcome();
    const sent = socket().takeSent("message");
    assert.deepEqual(sent.map(({ payload }) => payload), [1, 2, 3]);
    sent.forEach((frame, index) => ack(socket(), frame, index + 1));
    assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3]);
    mayReject(client.publish(4));
    assert.equal(socket().takeSent("message").length, 1);
  });

  test("at most a hundred publishes are in flight", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    for (let n = 1; n <= 250; n += 1) client.publish(n).catch(() => {});
    const sent = socket().takeSent("message");
    assert.equal(sent.length, 100);
    ack(socket(), sent[0], 1);
    assert.deepEqual(socket().takeSent("message").map(({ payload }) => payload), [101]);
  });

  test("unacknowledged publishes are sent again in order, with the same ids", async (t) => {
    const { client, socket, advance } = await startClient(t);
    socket().welcome();
    const published = [1, 2, 3].map((n) => mayReject(client.publish(n)));
    const first = socket().takeSent("message");
    ack(socket(), first[1], 2);
    socket().closeByServer(1006);
    published.push(client.publish(4));
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    const second = socket().takeSent("message");
    assert.deepEqual(second.map(({ payload }) => payload), [1, 3, 4]);
    assert.deepEqual(second.slice(0, 2).map(({ id }) => id), [first[0].id, first[2].id]);
    second.forEach((frame, index) => ack(socket(), frame, [1, 3, 4][index]));
    assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3, 4]);
  });

  test("a publish whose id the server may have forgotten is not sent again", async (t) => {
    const { client, socket, advance } = await startClient(t, { publishTimeout: Infinity, heartbeatInterval: Infinity });
    socket().welcome();
    const sentBefore = mayReject(client.publish("sent before"));
    assert.equal(socket().takeSent("message").length, 1);
    socket().closeByServer(1006);
    const fresh = mayReject(client.publish("never sent"));
    await advance(1_000);
    // An outage of more than four minutes.
    for (let minute = 0; minute < 16; minute += 1) {
      socket().closeByServer(1006);
      await advance(20_000);
    }
    assert.equal(await outcome(sentBefore), "pending");
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    assert.deepEqual(socket().takeSent("message").map(({ payload }) => payload), ["never sent"]);
    assert.equal(await outcome(sentBefore), "unknown_outcome");
    assert.equal(await outcome(fresh), "pending");
    client.close();
    assert.equal(await outcome(fresh), "unknown_outcome");
  });

  test("a publish is not sent again to a restarted server", async (t) => {
    const { client, socket, advance } = await startClient(t);
    socket().welcome();
    const sentBefore = mayReject(client.publish("sent before"));
    socket().closeByServer(1006);
    const fresh = mayReject(client.publish("never sent"));
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: OTHER_EPOCH, offset: 0, recovered: false, members: 1 }]);
    const sent = socket().takeSent("message");
    assert.deepEqual(sent.map(({ payload }) => payload), ["never sent"]);
    ack(socket(), sent[0], 1, OTHER_EPOCH);
    assert.equal(await outcome(sentBefore), "unknown_outcome");
    assert.equal((await fresh).epoch, OTHER_EPOCH);
  });

  test("a timeout is unknown_outcome for a publish that was sent", async (t) => {
    const { client, socket, advance } = await startClient(t, { publishTimeout: 30_000, heartbeatInterval: Infinity });
    const never = mayReject(client.publish("never sent"));
    socket().closeByServer(1006);
    await advance(10_000);
    await advance(15_000);
    await advance(5_000);
    assert.equal(await outcome(never), "timeout");
    socket().welcome();
    const sent = mayReject(client.publish("sent"));
    await advance(30_000);
    assert.equal(await outcome(sent), "unknown_outcome");
    assert.equal(client.waiting, 0);
  });

  for (const code of ["storage_unavailable", "rate_limited", "shutting_down"]) {
    test(`${code} is temporary: the publish is sent again after retry_after_ms`, async (t) => {
      const { client, socket, advance } = await startClient(t);
      socket().welcome();
      const published = mayReject(client.publish("x"));
      const [first] = socket().takeSent("message");
      socket().deliver({ type: "error", id: first.id, payload: { code, message: "later", retry_after_ms: 700 } });
      const next = mayReject(client.publish("y"));
      await advance(699);
      assert.deepEqual(socket().takeSent("message"), [], "later publishes wait too");
      await advance(1);
      const again = socket().takeSent("message");
      assert.deepEqual(again.map(({ payload }) => payload), ["x", "y"]);
      assert.equal(again[0].id, first.id);
      again.forEach((frame, index) => ack(socket(), frame, index + 1));
      assert.equal((await published).offset, 1);
      assert.equal((await next).offset, 2);
    });
  }

  test("a temporary refusal restarts the time in which a publish may be repeated", async (t) => {
    const { client, socket, advance } = await startClient(t, { publishTimeout: Infinity, heartbeatInterval: Infinity });
    socket().welcome();
    mayReject(client.publish("x"));
    const [{ id }] = socket().takeSent("message");
    socket().deliver({ type: "error", id, payload: { code: "rate_limited", message: "later", retry_after_ms: 230_000 } });
    await advance(230_000);
    assert.equal(socket().takeSent("message").length, 1);
    socket().closeByServer(1006);
    await advance(14_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    assert.equal(socket().takeSent("message").length, 1);
  });

  test("a publish waits for its room, and publishes to other rooms do not", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    const joined = client.join("ops");
    mayReject(client.publish("to ops", { room: "ops" }));
    mayReject(client.publish("to lobby", { room: "lobby" }));
    assert.deepEqual(socket().takeSent("message").map(({ payload }) => payload), ["to lobby"]);
    const [{ id }] = socket().takeSent("join");
    socket().deliver({ type: "joined", id, room: "ops", payload: { room: "ops", epoch: EPOCH, offset: 0, recovered: false, members: 1 } });
    await joined;
    assert.deepEqual(socket().takeSent("message").map(({ payload }) => payload), ["to ops"]);
  });

  test("leaving a room rejects the publishes that wait for it", async (t) => {
    const { client, socket, advance } = await startClient(t, { rooms: ["lobby", "ops"] });
    socket().welcome();
    const sent = mayReject(client.publish("sent", { room: "ops" }));
    socket().closeByServer(1006);
    const waiting = mayReject(client.publish("pending", { room: "ops" }));
    await client.leave("ops");
    assert.equal(await outcome(waiting), "not_in_room");
    assert.equal(await outcome(sent), "unknown_outcome");
    await advance(1_000);
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["lobby"]);
  });

  test("every other refusal rejects the publish", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    const published = mayReject(client.publish("x"));
    const [{ id }] = socket().takeSent("message");
    socket().deliver({ type: "error", id, payload: { code: "too_deep", message: "too deep" } });
    await assert.rejects(published, { name: "WscastError", code: "too_deep", message: "too deep" });
  });

  test("a publish that is too large is rejected, and the others are sent again", async (t) => {
    const { client, socket, advance } = await startClient(t);
    socket().welcome();
    const published = ["small", "x".repeat(1_000), "字".repeat(900), "small too"].map((text) => mayReject(client.publish(text)));
    socket().closeByServer(1009, "message too big");
    assert.equal(await outcome(published[2]), "message_too_large", "the largest in bytes");
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    // The error and the close are about the same publish.
    socket().deliver({ type: "error", payload: { code: "message_too_large", message: "too large" } });
    socket().closeByServer(1009, "message too big");
    assert.equal(await outcome(published[1]), "message_too_large");
    assert.equal(await outcome(published[0]), "pending");
    assert.equal(await outcome(published[3]), "pending");
  });

  test("invalid publishes are rejected before they are sent", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    assert.equal(await outcome(client.publish(undefined)), "invalid_field");
    assert.equal(await outcome(client.publish("x", { room: "other" })), "not_in_room");
    assert.equal(await outcome(client.publish("x", { id: "字".repeat(22) })), "invalid_id");
    assert.equal(await outcome(client.publish("x", { type: "join" })), "unknown_type");
    mayReject(client.publish("x", { id: "mine" }));
    assert.equal(await outcome(client.publish("x", { id: "mine" })), "invalid_id");
    assert.equal(socket().takeSent("message").length, 1);
  });

  test("two clients of one session use different ids", async (t) => {
    const session = "a session that two tabs share";
    const { client, sockets } = await startClient(t, { session });
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
      mayReject(each.publish("x"));
      return sockets[index].takeSent("message")[0].id;
    });
    assert.notEqual(ids[0], ids[1]);
    assert.ok(ids.every((id) => id.length <= 64));
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
