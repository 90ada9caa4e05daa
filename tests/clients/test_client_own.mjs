// assets/client.js with the real server: it recognises its own messages and learns which of its publishes were
// refused.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";

import { Person, WebSocket, eventually, numbers, portOf, startAliceAndBob } from "./person.mjs";
import { Proxy } from "./proxy.mjs";
import { environmentWithoutSettings, startServer, withinDeadline } from "./server.mjs";

describe("own messages", () => {
  /** Starts a server that requires tokens. `token` makes one for a user. */
  async function startServerWithTokens(t) {
    const folder = mkdtempSync(path.join(tmpdir(), "wscast-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const key = path.join(folder, "key");
    writeFileSync(key, "kq1x9Lw7Zr3Vt5Yb8Nc2Md4Ge6Hj0Fp-Qs");
    const token = (user) => {
      const args = ["token", "--secret-key-file", key, "--user", user, "--subscribe", "*", "--publish", "*"];
      const env = environmentWithoutSettings();
      return execFileSync(process.env.WSCAST_BIN, args, { encoding: "utf8", env }).trim();
    };
    return { server: await startServer(t, "--secret-key-file", key), token };
  }

  const ownPayloads = (person) => person.messages.filter(({ own }) => own).map(({ payload }) => payload);

  test("own is true for one's own messages only, though two clients have the same user", async (t) => {
    const { server, token } = await startServerWithTokens(t);
    const [phone, laptop, bob] = [
      await Person.connect(t, server.ws, { token: token("alice") }),
      await Person.connect(t, server.ws, { token: token("alice") }),
      await Person.connect(t, server.ws, { token: token("bob") }),
    ];
    for (const [person, payload] of [[phone, "phone"], [laptop, "laptop"], [bob, "bob"]]) await person.client.publish(payload);
    await bob.receives("lobby", ["phone", "laptop", "bob"]);
    await bob.client.publish("a copied id", { id: bob.messages[0].id });
    const payloads = ["phone", "laptop", "bob", "a copied id"];
    for (const person of [phone, laptop, bob]) await person.receives("lobby", payloads);
    assert.deepEqual([...new Set(phone.messages.map(({ from }) => from))], ["alice", "bob"]);
    assert.deepEqual([phone, laptop, bob].map(ownPayloads), [["phone"], ["laptop"], ["bob", "a copied id"]]);
  });

  test("a token in a subprotocol is not in the address", async (t) => {
    const { server, token } = await startServerWithTokens(t);
    const attempts = [];
    class Recorded extends WebSocket {
      constructor(url, subprotocols) {
        super(url, subprotocols);
        attempts.push({ url, subprotocols });
        this.addEventListener("open", () => (attempts.at(-1).chosen = this.protocol));
      }
    }
    const alice = await Person.connect(t, server.ws, { token: () => token("alice"), tokenIn: "subprotocol", WebSocket: Recorded });
    await alice.client.publish("hi");
    await eventually("the message", () => alice.messages[0]?.from === "alice");
    assert.equal(attempts.length, 1);
    assert.equal(attempts[0].chosen, "wscast");
    assert.deepEqual(attempts[0].subprotocols.map((offer) => offer.replace(/[^.]+\.[^.]+\.[^.]+$/, "…")), ["wscast", "wscast.token.…"]);
    assert.doesNotMatch(attempts[0].url, /token/);

  });

  test("own is true for one's own messages only, though all clients count their ids from one", async (t) => {
    const { server, token } = await startServerWithTokens(t);
    const anonymous = await startServer(t);
    for (const [url, alices, bobs] of [[server.ws, token("alice"), token("bob")], [anonymous.ws]]) {
      const held = [];
      class Holding extends WebSocket {
        send(frame) {
          held.push(() => super.send(frame));
        }
      }
      const alice = await Person.connect(t, url, { token: alices, WebSocket: Holding });
      const bob = await Person.connect(t, url, { token: bobs });
      const publishFive = ({ client }, payload) => Promise.all(numbers(5).map((n) => client.publish(payload, { id: `${n}` })));
      const published = publishFive(alice, "alice's");
      await withinDeadline(publishFive(bob, "bob's"), "acknowledgements");
      await alice.receives("lobby", Array(5).fill("bob's"));
      for (const send of held) send();
      await withinDeadline(published, "acknowledgements");
      for (const [person, payload] of [[alice, "alice's"], [bob, "bob's"]]) {
        await eventually("ten messages", () => person.messages.length === 10);
        assert.deepEqual(ownPayloads(person), Array(5).fill(payload));
      }
    }
  });

  test("own is true for messages from before a reconnect, and for repeated ones", async (t) => {
    const { server, token } = await startServerWithTokens(t);
    const proxy = await Proxy.start(t, portOf(server));
    const alice = await Person.connect(t, proxy.ws, { token: token("alice") });
    const bob = await Person.connect(t, server.ws, { token: token("bob") });
    proxy.dropReplies();
    const published = alice.client.publish("mine");
    await bob.receives("lobby", ["mine"]);
    proxy.cut();
    await withinDeadline(published, "acknowledgement");
    await alice.receives("lobby", ["mine"]);
    await alice.client.join("lobby", { since: 0 });
    await alice.receives("lobby", ["mine", "mine"]);
    assert.deepEqual(ownPayloads(alice), ["mine", "mine"]);
  });
});

describe("refusals", () => {
  const nested = (depth) => "[".repeat(depth) + "]".repeat(depth);

  test("the client's limit for nested payloads is the server's", async (t) => {
    const { alice, bob } = await startAliceAndBob(t);
    await alice.client.publishJson(nested(63));
    await assert.rejects(alice.client.publishJson(nested(64)), { code: "too_deep" });
    await bob.receives("lobby", [JSON.parse(nested(63))]);
  });

  for (const [code, unreadable] of [
    ["too_deep", (frame) => frame.replace('"replaced"', nested(64))],
    ["invalid_json", (frame) => frame.slice(0, -1)],
    ["not_an_object", (frame) => `[${frame}]`],
    ["duplicate_field", (frame) => frame.replace("}", ',"x":1,"x":2}')],
    ["invalid_field", (frame) => frame.replace(/"id":"[^"]*"/, '"id":7')],
    ["invalid_id", (frame) => frame.replace(/"id":"[^"]*"/, '"id":""')],
  ]) {
    test(`a publish that the server cannot read (${code}) is rejected at once, and no other`, async (t) => {
      class Garbling extends WebSocket {
        send(frame, ...rest) {
          super.send(frame.includes('"replaced"') ? unreadable(frame) : frame, ...rest);
        }
      }
      const { alice, bob } = await startAliceAndBob(t, { WebSocket: Garbling });
      const published = ["a", "replaced", "b", "replaced", "c"].map((payload) => alice.client.publish(payload));
      const results = await withinDeadline(Promise.allSettled(published), "replies");
      assert.deepEqual(results.map(({ status, reason }) => reason?.code ?? status), ["fulfilled", code, "fulfilled", code, "fulfilled"]);
      await alice.client.publish("d");
      await bob.receives("lobby", ["a", "b", "c", "d"]);
      assert.equal(alice.eventsOf("welcome").length, 1, "the connection stays open");
      assert.deepEqual(alice.eventsOf("error"), []);
    });
  }
});
