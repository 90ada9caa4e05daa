// Runs the binary that WSCAST_BIN names, on a free port of 127.0.0.1.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** The limit of every wait. */
export const DEADLINE_MS = 20_000;

/** Starts a server that is terminated when the test `t` ends. */
export async function startServer(t, ...args) {
  const binary = process.env.WSCAST_BIN;
  if (!binary) throw new Error("set WSCAST_BIN to the wscast binary, or run `make test-clients`");
  const child = spawn(binary, ["--host", "127.0.0.1", "--port", "0", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: environmentWithoutSettings(),
  });
  const exited = new Promise((resolve, reject) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", reject);
  });
  exited.catch(() => {}); // A binary that cannot be started is reported by announcedPort.
  t.after(async () => {
    child.kill("SIGTERM");
    await withinDeadline(exited, "the server's end").catch(() => child.kill("SIGKILL"));
  });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (log += text));

  const port = await withinDeadline(announcedPort(child, exited), "the socket URL").catch((error) => {
    throw new Error(`${error.message}; the server's log:\n${log}`);
  });
  return {
    http: `http://127.0.0.1:${port}`,
    ws: `ws://127.0.0.1:${port}/ws`,
    terminate: () => child.kill("SIGTERM"),
    exited: () => withinDeadline(exited, "the server's end"),
  };
}

/** Returns the promise's value, or throws an error that names what did not arrive in time. */
export async function withinDeadline(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function announcedPort(child, exited) {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /\bws:\/\/127\.0\.0\.1:(\d+)\/ws\b/.exec(line);
      if (found) resolve(Number(found[1]));
    });
    exited.then(({ code, signal }) => reject(new Error(`ended at start: ${code ?? signal}`)), reject);
  });
}

/** Returns the environment without the variables that the server reads as settings. */
export function environmentWithoutSettings() {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith("WSCAST_") && name !== "HOST" && name !== "PORT",
    ),
  );
}
