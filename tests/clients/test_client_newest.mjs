// How assets/client.js gets the newest messages on joining, and publishes without an echo.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EPOCH, OTHER_EPOCH, outcome, settled, startClient } from "./scripted.mjs";

const state = (offset, rest = {}) => ({ room: "lobby", epoch: EPOCH, offset, recovered: false, members: 1, ...rest });
const payloads = (received) => received("message").map(({ payload }) => payload);

describe("newest messages", () => {
  test("the address asks for them, and holes in them are no gap", async (t) => {
    const { client, socket, received } = await startClient(t, { rooms: [{ room: "lobby", last: 5 }] });
    assert.equal(socket().url.searchParams.get("last"), "5");
    socket().welcome([state(15, { live_after: 20 })]);
    for (const offset of [17, 18, 21, 22]) socket().message(offset);
    assert.deepEqual(payloads(received), [17, 18, 21, 22]);
    assert.deepEqual(client.position("lobby"), { epoch: EPOCH, offset: 22 });
    socket().message(24);
    assert.equal(socket().takeSent("join").length, 1, "after them a hole is a gap");
    assert.deepEqual(received("gap"), []);
  });

  test("rooms with another number are joined afterwards", async (t) => {
    const { socket } = await startClient(t, { rooms: [{ room: "lobby", last: 5 }, { room: "ops", last: 9 }, "dev"] });
    assert.deepEqual(socket().url.searchParams.getAll("room"), ["lobby"]);
    socket().welcome();
    const joins = socket().takeSent("join").map(({ room, last }) => [room, last]);
    assert.deepEqual(joins, [["ops", 9], ["dev", undefined]]);
  });

  test("join asks for them unless the client is a member", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    const joined = client.join("ops", { last: 2 });
    const [{ id, last }] = socket().takeSent("join");
    assert.equal(last, 2);
    socket().deliver({ type: "joined", id, room: "ops", payload: { ...state(8, { live_after: 10 }), room: "ops" } });
    for (const offset of [9, 10, 11]) socket().message(offset, "ops");
    assert.equal((await joined).offset, 8);
    assert.deepEqual(payloads(received), [9, 10, 11]);
    client.join("ops", { last: 3 }).catch(() => {});
    assert.equal(socket().takeSent("join")[0].last, undefined);
  });

  test("after an outage that is too long they follow the gap", async (t) => {
    for (const [epoch, from] of [[EPOCH, 30], [OTHER_EPOCH, 3]]) {
      const { client, socket, received, advance } = await startClient(t, { rooms: [{ room: "lobby", last: 2 }] });
      socket().welcome([state(15, { live_after: 15 })]);
      socket().message(16);
      socket().closeByServer(1006);
      await advance(1_000);
      const query = socket().url.searchParams;
      assert.deepEqual([query.get("since"), query.get("last")], ["16", "2"]);
      socket().welcome([state(from, { epoch, live_after: from + 2 })]);
      for (const offset of [1, 2, 3]) socket().message(from + offset);
      const gap = { room: "lobby", from: { epoch: EPOCH, offset: 16 }, to: { epoch, offset: from } };
      assert.deepEqual(received("gap"), [gap]);
      assert.deepEqual(payloads(received), [16, from + 1, from + 2, from + 3]);
      assert.deepEqual(socket().takeSent("join"), []);
      client.close();
      t.mock.timers.reset();
    }
  });

  test("a wrong number is rejected", async (t) => {
    const { client } = await startClient(t);
    for (const last of [-1, 1.5, 1001, "5"]) {
      assert.equal(await outcome(client.join("ops", { last })), "invalid_field", String(last));
    }
  });
});

describe("publishing without an echo", () => {
  const ack = (id, offset, echo) => ({ type: "ack", id, room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset, ...echo } });

  test("the acknowledgement counts as the message", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    const published = client.publish("hi", { echo: false });
    const [{ id, echo }] = socket().takeSent("message");
    assert.equal(echo, false);
    socket().message(1);
    socket().deliver(ack(id, 2, { echo: false }));
    socket().message(3);
    assert.deepEqual(await published, { room: "lobby", epoch: EPOCH, offset: 2 });
    assert.deepEqual(payloads(received), [1, 3]);
    assert.deepEqual(client.position("lobby"), { epoch: EPOCH, offset: 3 });
    assert.deepEqual(socket().takeSent("join"), [], "nothing is missing");
    // It came for a publish over HTTP of the same session.
    socket().deliver({ type: "ack", room: "lobby", payload: { room: "lobby", epoch: EPOCH, offset: 4, echo: false } });
    assert.equal(client.position("lobby").offset, 4);
  });

  test("an acknowledgement elsewhere does not", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    client.publish("hi", { echo: false });
    const [{ id }] = socket().takeSent("message");
    socket().deliver(ack(id, 1));
    assert.equal(client.position("lobby").offset, 0);
    // After a message that never came, the place of the acknowledgement shows the gap.
    socket().deliver(ack("x", 3, { echo: false }));
    assert.equal(socket().takeSent("join")[0].since, 0);
  });

  test("the message is not reported when it comes from history", async (t) => {
    const { client, socket, received, advance } = await startClient(t);
    socket().welcome();
    const [quiet, loud] = [client.publish("quiet", { echo: false }), client.publish("loud")];
    const [{ id }, { id: other, echo }] = socket().takeSent("message");
    assert.equal(echo, undefined);
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([state(0, { recovered: true })]);
    const message = (id, offset) => ({ type: "message", payload: id, room: "lobby", offset, from: "c0-1", ts: 0, id });
    socket().deliver(message(id, 1));
    socket().deliver(message(other, 2));
    socket().deliver(ack(id, 1));
    socket().deliver(ack(other, 2));
    await settled();
    assert.deepEqual(received("message").map(({ payload, own }) => [payload, own]), [[other, true]]);
    assert.deepEqual([(await quiet).offset, (await loud).offset], [1, 2]);
    assert.equal(client.position("lobby").offset, 2);
  });
});
