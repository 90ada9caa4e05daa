// The types of assets/client.js, as TypeScript checks them in a program.

import { spawnSync } from "node:child_process";
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const modules = process.env.CLIENT_MODULES;
if (!modules) throw new Error("set CLIENT_MODULES to the node_modules folder, or run `make test-clients`");

test("tsc accepts the client and finds the type errors in a program", () => {
  const program = fileURLToPath(new URL("typed_program.js", import.meta.url));
  const tsc = path.resolve(modules, "typescript/bin/tsc");
  const options = "--noEmit --checkJs --strict --target es2022 --module es2022 --moduleResolution bundler --lib es2022,dom";
  const { stdout, stderr, status } = spawnSync(process.execPath, [tsc, ...options.split(" "), program], { encoding: "utf8" });
  assert.equal(stdout + stderr, "");
  assert.equal(status, 0);
});
