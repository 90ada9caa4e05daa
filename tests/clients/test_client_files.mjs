// Where the client's files are: as a folder that a program copies, and at the addresses of the server.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import * as client from "../../assets/client/client.js";
import { startServer } from "./server.mjs";

const ASSETS = fileURLToPath(new URL("../../assets", import.meta.url));

for (const [what, copied, main] of [
  ["the folder client", "client", "client.js"],
  ["the folder assets", ".", "client.js"],
]) {
  test(`a copy of ${what} is imported in Node`, async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), "wscast-"));
    t.after(() => rmSync(folder, { recursive: true }));
    cpSync(path.join(ASSETS, copied), folder, { recursive: true });
    const copy = await import(pathToFileURL(path.join(folder, main)));
    assert.deepEqual(Object.keys(copy), Object.keys(client));
  });
}

test("every file that the page and the client refer to is served", async (t) => {
  const { http } = await startServer(t);
  const seen = new Set();
  const follow = async (address) => {
    if (seen.has(address)) return;
    seen.add(address);
    const response = await fetch(address);
    assert.equal(response.status, 200, address);
    const text = await response.text();
    const referred = [...text.matchAll(/(?:from|import|src=|link rel="stylesheet" href=)\s*\(?["']([\w./-]+)["']/g)];
    await Promise.all(referred.map(([, reference]) => follow(new URL(reference, address).href)));
  };
  await follow(`${http}/`);
  await follow(`${http}/assets/client.js`);
  for (const file of ["client/client.js", "client/types.js", "page/page.js", "page/page.css", "page/words/words.js"]) {
    assert.ok(seen.has(`${http}/assets/${file}`), `${file} is referred to`);
  }
});

test("the page preloads exactly the modules that it imports, so that none is found late", async () => {
  const page = readFileSync(path.join(ASSETS, "index.html"), "utf8");
  const preloaded = [...page.matchAll(/<link rel="modulepreload" href="assets\/([^"]+)">/g)].map(([, file]) => file);
  const imported = new Set();
  const follow = (file) => {
    if (imported.has(file)) return;
    imported.add(file);
    const text = readFileSync(path.join(ASSETS, file), "utf8");
    for (const [, reference] of text.matchAll(/^(?:import|export)\b[^;]*?from '(\.[^']+)';/gms)) follow(path.posix.join(path.posix.dirname(file), reference));
  };
  follow("page/page.js");
  imported.delete("page/page.js");
  assert.deepEqual([...preloaded].sort(), [...imported].sort());
});

test("the addresses that the client's files had before are served, with the same names", async (t) => {
  const { http } = await startServer(t);
  for (const name of ["connection", "membership", "publishes", "requests", "rooms", "types"]) {
    const response = await fetch(`${http}/assets/client-${name}.js`);
    assert.equal(response.status, 200, name);
    assert.equal(response.headers.get("content-type"), "text/javascript; charset=utf-8");
    assert.equal(await response.text(), `export * from './client/${name}.js';\n`);
  }
  assert.equal((await fetch(`${http}/assets/client%2Fclient.js`)).status, 404);
});
