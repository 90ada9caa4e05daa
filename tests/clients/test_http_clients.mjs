// HTTP clients of Node and the real server: bodies as streams, clients of event streams, and a proxy that compresses.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import path from "node:path";
import { describe, test } from "node:test";

import { startServer, withinDeadline } from "./server.mjs";

const modules = process.env.CLIENT_MODULES;
if (!modules) throw new Error("set CLIENT_MODULES to the node_modules folder, or run `make test-clients`");
const require = createRequire(path.resolve(modules, "..", "package.json"));

const { EventSource } = require("eventsource");
const { EventSourcePolyfill } = require("event-source-polyfill");
const { fetch: undiciFetch } = require("undici");
const express = require("express");
const compression = require("compression");
const { createProxyMiddleware } = require("http-proxy-middleware");

const json = { "Content-Type": "application/json" };

async function publish(server, payload) {
  const body = JSON.stringify({ type: "message", payload });
  const response = await fetch(`${server.http}/rooms/ops/messages`, { method: "POST", headers: json, body });
  assert.equal(response.status, 201);
}

/** A stream whose chunks are these texts. */
function streamOf(texts) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    pull(controller) {
      const text = texts.shift();
      if (text === undefined) controller.close();
      else controller.enqueue(encoder.encode(text));
    },
  });
}

describe("fetch with a stream as body", () => {
  for (const [name, send] of Object.entries({ "Node's own": fetch, undici: undiciFetch })) {
    test(`${name} publishes it`, async (t) => {
      const server = await startServer(t);
      for (const payload of ["short", { deep: ["你好", 1.5] }, "x".repeat(20_000)]) {
        const texts = [...JSON.stringify({ type: "message", payload })];
        const body = streamOf(texts.length > 1000 ? [texts.slice(0, 9).join(""), texts.slice(9).join("")] : texts);
        const options = { method: "POST", headers: json, body, duplex: "half" };
        const response = await send(`${server.http}/rooms/ops/messages`, options);
        assert.equal(response.status, 201, await response.text());
        const page = await (await send(`${server.http}/rooms/ops/messages?limit=1`)).json();
        assert.deepEqual(page.messages[0].payload, payload);
      }
    });
  }
});

/** Collects the events of a source; `until` waits for one that fits. */
function collect(source) {
  const events = [];
  const waiting = new Set();
  for (const type of ["joined", "message", "custom_event", "error"]) {
    source.addEventListener(type, (event) => {
      events.push({ type, data: event.data ? JSON.parse(event.data) : undefined, id: event.lastEventId });
      for (const wake of waiting) wake();
    });
  }
  events.until = (fits, what) =>
    withinDeadline(
      new Promise((resolve) => {
        const look = () => {
          const found = events.find(fits);
          if (!found) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
      what,
    );
  return events;
}

const sources = { eventsource: EventSource, "event-source-polyfill": EventSourcePolyfill };

for (const [name, Source] of Object.entries(sources)) {
  const open = (t, url) => {
    const source = new Source(url);
    t.after(() => source.close());
    return Object.assign(collect(source), { source });
  };

  describe(`an event stream with the EventSource of ${name}`, () => {
    test("comes back after a refusal that passes, and then has all messages", async (t) => {
      const server = await startServer(t, "--max-members-per-room", "1");
      await publish(server, "first");
      const holder = new AbortController();
      await fetch(`${server.http}/rooms/ops/events`, { signal: holder.signal });
      const events = open(t, `${server.http}/rooms/ops/events?lastEventId=0`);
      const refused = await events.until(({ type, data }) => type === "error" && data, "error event");
      assert.equal(refused.data.code, "room_full");
      holder.abort();
      const joined = await events.until(({ type }) => type === "joined", "joined event");
      assert.equal(joined.data.recovered, true);
      await events.until(({ data }) => data?.payload === "first", "first message");
      await publish(server, "second");
      const second = await events.until(({ data }) => data?.payload === "second", "second message");
      assert.equal(second.id, `${joined.data.epoch}-2`);
    });

    test("stays away after a refusal that lasts", async (t) => {
      const server = await startServer(t);
      const events = open(t, `${server.http}/rooms/a%20b/events`);
      await events.until(({ type }) => type === "error", "error event");
      assert.equal(events.source.readyState, Source.CLOSED);
      assert.equal(events.length, 1);
    });

    test("resumes on another server's id as a new stream", async (t) => {
      const server = await startServer(t);
      await publish(server, "old");
      const events = open(t, `${server.http}/rooms/ops/events?lastEventId=urn:uuid:5e94c686`);
      const joined = await events.until(({ type }) => type === "joined", "joined event");
      assert.equal(joined.data.recovered, false);
      await publish(server, "new");
      await events.until(({ data }) => data?.payload === "new", "message");
      assert.ok(!events.some(({ data }) => data?.payload === "old"));
    });
  });
}

test("express with compression in front passes each event on at once", async (t) => {
  const server = await startServer(t);
  const app = express();
  app.use(compression({ threshold: 0 }));
  app.use(createProxyMiddleware({ target: server.http }));
  const listener = app.listen(0, "127.0.0.1");
  t.after(() => {
    listener.closeAllConnections();
    listener.close();
  });
  await once(listener, "listening");
  const proxy = `http://127.0.0.1:${listener.address().port}`;

  // The middleware does compress other responses.
  const page = await fetch(`${proxy}/rooms`, { headers: { "Accept-Encoding": "gzip" } });
  assert.equal(page.headers.get("content-encoding"), "gzip");

  const stream = await fetch(`${proxy}/rooms/ops/events`, { headers: { "Accept-Encoding": "gzip" } });
  assert.equal(stream.headers.get("content-encoding"), null);
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const read = async (end) => {
    while (!text.includes(end)) text += (await withinDeadline(reader.read(), end)).value;
  };
  await read("event: joined");
  for (const payload of ["one", "two"]) {
    await publish({ http: proxy }, payload);
    await read(`"${payload}"`);
  }
  await reader.cancel();
});
