// How assets/client.js queues, sends, repeats and gives up publishes.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WscastClient } from "../../assets/client.js";
import { EPOCH, OTHER_EPOCH, Socket, mayReject, outcome, settled, startClient } from "./scripted.mjs";

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
    for (const id of ["字".repeat(22), "", 5, null, "\ud800"]) {
      assert.equal(await outcome(client.publish("x", { id })), "invalid_id", String(id));
    }
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
