// Which publishes assets/client.js rejects, and which messages it takes for its own.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EPOCH, mayReject, outcome, startClient } from "./scripted.mjs";

describe("own messages", () => {
  const publish = (socket, fields) => socket.deliver({ type: "message", payload: "x", room: "lobby", from: "alice", ts: 0, ...fields });
  const owns = (received) => received("message").map(({ own }) => own);

  test("a message is own if a token names the user, before and after its acknowledgement", async (t) => {
    const { client, socket, received } = await startClient(t, { token: "alice's" });
    socket().welcome();
    for (const offset of [1, 2]) {
      mayReject(client.publish("x"));
      const [{ id }] = socket().takeSent("message");
      const acknowledge = () => socket().deliver({ type: "ack", id, payload: { room: "lobby", epoch: EPOCH, offset } });
      if (offset === 1) acknowledge();
      publish(socket(), { id, offset });
      if (offset === 2) acknowledge();
    }
    assert.deepEqual(owns(received), [true, true]);
  });

  test("messages of the user's other clients, and copied ids, are not own", async (t) => {
    const { client, socket, received } = await startClient(t, { token: "alice's" });
    socket().welcome();
    publish(socket(), { id: "another client's", offset: 1 });
    publish(socket(), { offset: 2 });
    mayReject(client.publish("x"));
    const [{ id }] = socket().takeSent("message");
    publish(socket(), { id, offset: 3 });
    publish(socket(), { id, offset: 4, from: "mallory" });
    publish(socket(), { id, offset: 5 });
    assert.deepEqual(owns(received), [false, false, true, false, false]);
  });

  test("an id that another client used first is corrected by the acknowledgement", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    mayReject(client.publish("x", { id: "order-1" }));
    socket().deliver({ type: "ack", id: "order-1", payload: { room: "lobby", epoch: EPOCH, offset: 2 } });
    publish(socket(), { id: "order-1", offset: 1, from: "mallory" });
    publish(socket(), { id: "order-1", offset: 2 });
    assert.deepEqual(owns(received), [false, true]);
  });

  for (const [sub, user] of [["alice", "alice"], ["Алиса 🙂", "Алиса 🙂"], [42, "42"]]) {
    test(`the token names the user before the first acknowledgement: ${user}`, async (t) => {
      const claims = Buffer.from(JSON.stringify({ sub })).toString("base64url");
      const { client, socket, received } = await startClient(t, { token: async () => `e30.${claims}.c2ln` });
      socket().welcome();
      mayReject(client.publish("x", { id: "1" }));
      publish(socket(), { id: "1", offset: 1, from: "bob" });
      publish(socket(), { id: "1", offset: 2, from: user });
      assert.deepEqual(owns(received), [false, true]);
    });
  }

  test("without a token the first acknowledged message shows the user", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    for (const [id, first] of [["1", 1], ["2", 3]]) {
      mayReject(client.publish("x", { id }));
      publish(socket(), { id, offset: first, from: "bob" });
      publish(socket(), { id, offset: first + 1, from: "alice" });
      socket().deliver({ type: "ack", id, payload: { room: "lobby", epoch: EPOCH, offset: first + 1 } });
    }
    assert.deepEqual(owns(received), [false, false, false, true]);
  });

  test("ids that a program chose may be in use by others, before the acknowledgement too", async (t) => {
    for (const [mine, others] of [["c0000000a-1", "c0000000b-2"], ["c0000000a-1", "bob"], ["alice", "bob"], ["alice", "c0000000b-2"]]) {
      const { client, socket, received } = await startClient(t);
      socket().welcome(undefined, "c0000000a-1");
      mayReject(client.publish("x"));
      publish(socket(), { id: socket().takeSent("message")[0].id, offset: 1, from: mine });
      mayReject(client.publish("x", { id: "1" }));
      publish(socket(), { id: "1", offset: 2, from: others });
      publish(socket(), { id: "1", offset: 3, from: mine });
      publish(socket(), { id: "1", offset: 4, from: others });
      assert.deepEqual(owns(received), [true, false, true, false], `${mine} and ${others}`);
      client.close();
      t.mock.timers.reset();
    }
  });

  test("a refused publish makes no message own", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    mayReject(client.publish("x", { id: "order-1" }));
    socket().deliver({ type: "error", id: "order-1", payload: { code: "forbidden", message: "no" } });
    publish(socket(), { id: "order-1", offset: 1, from: "mallory" });
    assert.deepEqual(owns(received), [false]);
  });

  test("a message is own again when it is delivered again, on a later connection too", async (t) => {
    const { client, socket, advance, received } = await startClient(t);
    socket().welcome();
    mayReject(client.publish("x"));
    const [{ id }] = socket().takeSent("message");
    socket().deliver({ type: "ack", id, payload: { room: "lobby", epoch: EPOCH, offset: 1 } });
    publish(socket(), { id, offset: 1 });
    socket().closeByServer(1006);
    mayReject(client.join("lobby", { since: 0 }));
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    publish(socket(), { id, offset: 1 });
    assert.deepEqual(owns(received), [true, true]);
  });
});

describe("refused publishes", () => {
  const ack = (socket, { id, room }, offset, epoch = EPOCH) => {
    socket.deliver({ type: "ack", id, room, payload: { room, epoch, offset } });
  };

  test("a value that JSON cannot represent is rejected, and nothing throws", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    const cyclic = {};
    cyclic.self = [cyclic];
    const throwing = { toJSON() { throw new Error("a bug of the program"); } };
    for (const payload of [10n, { n: 10n }, cyclic, throwing, undefined, () => {}, Symbol("x")]) {
      assert.equal(await outcome(client.publish(payload)), "invalid_field");
    }
    assert.equal(await outcome(client.publish("x", null)), "TypeError");
    for (const since of [10n, "3", -1, 1.5, NaN, cyclic]) {
      assert.equal(await outcome(client.join("lobby", { since })), "invalid_field");
    }
    assert.equal(await outcome(client.history("lobby", { since: 10n })), "invalid_field");
    assert.equal(await outcome(client.history("lobby", { limit: cyclic })), "invalid_field");
    assert.deepEqual(socket().sent, []);
    assert.equal(client.waiting, 0);
  });

  test("a payload that is nested too deep for the server is not sent", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    const nested = (depth, open = "[", close = "]") => open.repeat(depth) + close.repeat(depth);
    for (const text of [nested(64), nested(64, '{"a":', "}").replace(":}", ":1}"), nested(100_000)]) {
      assert.equal(await outcome(client.publishJson(text)), "too_deep");
    }
    assert.equal(await outcome(client.publish(JSON.parse(nested(64)))), "too_deep");
    let endless = [];
    for (let depth = 0; depth < 100_000; depth += 1) endless = [endless];
    assert.equal(await outcome(client.publish(endless)), "too_deep");
    assert.deepEqual(socket().sent, []);

    for (const text of [nested(63), JSON.stringify("[".repeat(100)), JSON.stringify('\\"[[{'.repeat(100))]) {
      assert.equal(await outcome(client.publishJson(text)), "pending");
    }
    assert.equal(socket().takeSent("message").length, 3);
  });

  for (const code of ["too_deep", "invalid_json", "not_an_object", "duplicate_field", "invalid_id"]) {
    test(`a refusal without an id (${code}) rejects the publish in flight at once`, async (t) => {
      const { client, socket, received } = await startClient(t);
      socket().welcome();
      const published = mayReject(client.publish("x"));
      socket().takeSent("message");
      socket().deliver({ type: "error", payload: { code, message: "unreadable" } });
      await assert.rejects(published, { code, message: "unreadable" });
      assert.deepEqual(received("error"), []);
    });
  }

  test("a refusal without an id waits until its publish is known", async (t) => {
    const { client, socket } = await startClient(t);
    socket().welcome();
    const published = [1, 2, 3, 4].map((n) => mayReject(client.publish(n)));
    const frames = socket().takeSent("message");
    for (const code of ["too_deep", "invalid_json"]) socket().deliver({ type: "error", payload: { code, message: "" } });
    const later = mayReject(client.publish(5));
    assert.deepEqual(socket().takeSent("message"), [], "another publish would make it less certain");
    ack(socket(), frames[3], 1);
    assert.equal(await outcome(published[0]), "pending");
    ack(socket(), frames[1], 2);
    assert.equal(await outcome(published[0]), "too_deep");
    assert.equal(await outcome(published[2]), "invalid_json");
    assert.equal((await published[1]).offset, 2);
    const [last] = socket().takeSent("message");
    assert.equal(last.payload, 5);
    ack(socket(), last, 3);
    assert.equal((await later).offset, 3);
  });

  test("a refusal without an id rejects no publish that timed out or was sent again", async (t) => {
    const { client, socket, advance } = await startClient(t, { publishTimeout: 10_000, heartbeatInterval: Infinity });
    socket().welcome();
    const first = mayReject(client.publish(1));
    await advance(5_000);
    const second = mayReject(client.publish(2));
    const frames = socket().takeSent("message");
    socket().deliver({ type: "error", payload: { code: "invalid_json", message: "" } });
    await advance(5_000);
    assert.equal(await outcome(first), "unknown_outcome");
    assert.equal(await outcome(second), "pending");
    ack(socket(), frames[1], 1);
    assert.equal((await second).offset, 1);

    const third = mayReject(client.publish(3));
    mayReject(client.publish(4));
    socket().deliver({ type: "error", payload: { code: "invalid_json", message: "" } });
    socket().closeByServer(1006);
    await advance(1_000);
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 0, recovered: true, members: 1 }]);
    const again = socket().takeSent("message");
    assert.deepEqual(again.map(({ payload }) => payload), [3, 4]);
    ack(socket(), again[1], 2);
    socket().deliver({ type: "error", payload: { code: "invalid_json", message: "" } });
    assert.equal(await outcome(third), "invalid_json", "no attempt can have stored it");
  });

  test("a refusal of a ping rejects no publish", async (t) => {
    const { client, socket, received } = await startClient(t);
    socket().welcome();
    const published = mayReject(client.publish("x"));
    socket().deliver({ type: "error", payload: { code: "rate_limited", message: "slower" } });
    assert.equal(await outcome(published), "pending");
    assert.deepEqual(received("error").map(({ code }) => code), ["rate_limited"]);
  });
});
