"""Checks static programs and prints the size, start time and idle memory of each.

    python3 assets/deploy/release_check.py [--no-limits] FILE…

Each program must be static, and must serve in an empty folder as its root, where `wscast healthcheck` must succeed and,
with SQLite, a message must outlive a restart; the latter needs root. Programs for other machines run under qemu if Debian's package qemu-user-static is installed; times
and memory are then qemu's, and are not printed. The exit code is 1 if a program fails or is larger, slower or hungrier
than the limits below, unless `--no-limits` is given.
"""

import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

MIB = 1 << 20
SIZE_MAX = 6 * MIB
SMALL_SIZE_MAX = int(2.5 * MIB)
START_SECONDS_MAX = 0.020
IDLE_BYTES_MAX = 4 * MIB
STARTS = 15
DEADLINE_SECONDS = 20

MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm"}
"""ELF's `e_machine`, and the names that the kernel and qemu use."""
PT_INTERP = 3


class Failure(Exception):
    """A program does not do what it should."""


def elf(path):
    """The machine of a program, and whether it names a dynamic linker."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF":
        raise Failure("is not a program for Linux")
    is_64 = data[4] == 2
    (machine,) = struct.unpack_from("<H", data, 18)
    (offset,) = struct.unpack_from("<Q" if is_64 else "<I", data, 32 if is_64 else 28)
    size, count = struct.unpack_from("<HH", data, 54 if is_64 else 42)
    kinds = [struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)]
    return MACHINES.get(machine, str(machine)), PT_INTERP in kinds


def runner(machine):
    """The command that runs programs of a machine: none on the machine itself. None if there is none."""
    own = os.uname().machine
    if machine == own or (machine == "arm" and own.startswith("armv")):
        return []
    qemu = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    return [qemu] if qemu else None


class Server:
    """A running program on a free port; `seconds` is the time from its start to its first response."""

    def __init__(self, command, *settings, **options):
        begin = time.perf_counter()
        flags = ["--host", "127.0.0.1", "--port", "0", "--log-level", "error", *settings]
        self.process = subprocess.Popen(command + flags, stdout=subprocess.PIPE, text=True, **options)
        line = self.process.stdout.readline()
        self.url = line.removeprefix("page").strip()
        if not self.url:
            raise Failure(f"does not start, exit code {self.process.wait(DEADLINE_SECONDS)}")
        with urllib.request.urlopen(self.url + "health", timeout=DEADLINE_SECONDS) as response:
            response.read()
        self.seconds = time.perf_counter() - begin

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)
        self.process.stdout.close()

    def request(self, path, body=None):
        """The JSON response to a GET, or to a POST of this JSON."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return json.load(response)

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


def check_empty_root(program, run):
    """Serves in an empty folder, and checks the health from inside it."""
    if os.geteuid() != 0:
        return "SKIPPED: needs root"
    with tempfile.TemporaryDirectory() as root:
        inside = []
        for file in [*run, program]:
            shutil.copy(file, root)
            inside.append("/" + Path(file).name)
        enter = {"preexec_fn": lambda: os.chroot(root), "cwd": "/", "env": {}}
        with Server(inside, **enter) as server:
            check = [*inside, "healthcheck", "--url", server.url, "--timeout", f"{DEADLINE_SECONDS}s"]
            checked = subprocess.run(check, capture_output=True, text=True, check=False, **enter)
        if checked.returncode != 0:
            raise Failure(f"healthcheck in an empty root: {checked.stderr.strip()}")
        if "small" not in program.name and "wscast-" in program.name:
            check_history(inside, enter)
    return "yes"


def check_history(inside, enter):
    """Publishes a message in the empty folder, and reads it after a restart."""
    messages, database = "rooms/lobby/messages", ["--db", "/history.db"]
    with Server(inside, *database, **enter) as server:
        server.request(messages, {"type": "message", "payload": "kept"})
    with Server(inside, *database, **enter) as server:
        payloads = [message["payload"] for message in server.request(messages)["messages"]]
    if payloads != ["kept"]:
        raise Failure(f"the history after a restart is {payloads}")


def check(program):
    """The line of a program, and what exceeds its limits."""
    machine, is_dynamic = elf(program)
    if is_dynamic:
        raise Failure("is not static")
    size = program.stat().st_size
    size_max = SMALL_SIZE_MAX if "small" in program.name else SIZE_MAX
    excess = [f"larger than {size_max / MIB} MiB"] if size > size_max else []
    columns = [program.name, f"{size / MIB:.2f} MiB"]
    run = runner(machine)
    if run is None:
        return [*columns, "-", "-", f"SKIPPED: needs qemu-{machine}-static"], excess
    in_empty_root = check_empty_root(program, run)
    if run:
        return [*columns, "-", "-", in_empty_root + ", under qemu"], excess
    starts, idle = [], 0
    for _ in range(STARTS):
        with Server([str(program.resolve())]) as server:
            starts.append(server.seconds)
            idle = max(idle, server.resident_bytes())
    start = statistics.median(starts)
    if start > START_SECONDS_MAX:
        excess.append(f"starts in more than {START_SECONDS_MAX * 1000:.0f} ms")
    if idle > IDLE_BYTES_MAX:
        excess.append(f"needs more than {IDLE_BYTES_MAX / MIB:.0f} MiB when idle")
    return [*columns, f"{start * 1000:.1f} ms", f"{idle / MIB:.2f} MiB", in_empty_root], excess


def main(arguments):
    has_limits = "--no-limits" not in arguments
    files = [argument for argument in arguments if argument != "--no-limits"]
    rows, failures = [["program", "size", "first response", "idle", "runs in an empty root"]], []
    for file in map(Path, files):
        try:
            row, excess = check(file)
            rows.append(row)
            if has_limits:
                failures += [f"{file.name}: {why}" for why in excess]
        except Failure as failure:
            failures.append(f"{file.name}: {failure}")
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
