"""Measures what a server needs for a number of clients and messages: CPU, memory, and the kernel's part of both.

    python3 tests/bench/sizing.py SERVER [CLIENTS,MESSAGES_PER_SECOND …]

The server runs on one core, `SERVER bench` on another. Each row is one measurement of SECONDS, printed as Markdown.

- CPU is that of the server's process; the kernel's part is its system time, which is mostly sending.
- Memory is the resident set of the process. The kernel's part comes on top of it: the growth of the stacks of threads and
  of page tables, and half of the growth of slabs and of the buffers of TCP, because the other half is that of the clients
  on the same machine.
"""

import json
import os
import re
import subprocess
import sys
import time

SECONDS = 10
LOADS = ["0,0", "100,10", "1000,10", "1000,50", "5000,10", "10000,1"]
SERVER_CORE, CLIENT_CORE = 0, 1
UNLIMITED = ["--max-connections-per-address", "0", "--max-connection-rate", "0", "--max-request-rate", "0"]
TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def pinned(core):
    return lambda: os.sched_setaffinity(0, {core})


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def cpu(pid):
    """User and system seconds of a process."""
    fields = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return int(fields[11]) / TICK, int(fields[12]) / TICK


def resident(pid):
    return int(read(f"/proc/{pid}/statm").split()[1]) * PAGE


def kernel_memory():
    """Bytes of the kernel: of threads, which only the server has, and half of those of sockets, which both ends have."""
    meminfo = dict(re.findall(r"(\w+): +(\d+) kB", read("/proc/meminfo")))
    buffers = int(re.search(r"TCP:.* mem (\d+)", read("/proc/net/sockstat"))[1]) * PAGE
    of_threads = sum(int(meminfo[name]) for name in ("KernelStack", "PageTables")) * 1024
    return of_threads + (int(meminfo["SUnreclaim"]) * 1024 + buffers) // 2


def measure(program, clients, rate):
    before = kernel_memory()
    command = [program, "--host", "127.0.0.1", "--port", "0", "--log-level", "warn", *UNLIMITED]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=pinned(SERVER_CORE))
    try:
        url = re.search(r"ws://\S+", server.stdout.readline() + server.stdout.readline())[0]
        if clients == 0:
            time.sleep(1)
            return resident(server.pid), kernel_memory() - before, 0, 0, None
        bench = [program, "bench", "--json", "--clients", str(clients), "--rate", str(rate), "--duration", str(SECONDS), url]
        load = subprocess.Popen(bench, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(CLIENT_CORE))
        # Until the clients are connected, nothing is measured.
        while json.loads(stats(url))["connected_clients"] < clients:
            time.sleep(0.1)
        time.sleep(1)
        start, (user, system) = time.monotonic(), cpu(server.pid)
        time.sleep(SECONDS - 3)
        elapsed, (user_after, system_after) = time.monotonic() - start, cpu(server.pid)
        memory, kernel = resident(server.pid), kernel_memory() - before
        figures = json.loads(load.communicate()[0])
        if load.returncode:
            raise SystemExit(f"{clients} clients, {rate} a second: {figures}")
        return memory, kernel, (user_after - user) / elapsed, (system_after - system) / elapsed, figures
    finally:
        server.terminate()
        server.wait()


def stats(url):
    import urllib.request

    with urllib.request.urlopen(url.replace("ws://", "http://").replace("/ws", "/stats"), timeout=20) as response:
        return response.read()


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print("| clients | messages per second | deliveries per second | CPU, of which the kernel | memory | the kernel's | p95 |")
    print("|---|---|---|---|---|---|---|")
    for load in sys.argv[2:] or LOADS:
        clients, rate = map(int, load.split(","))
        memory, kernel, user, system, figures = measure(sys.argv[1], clients, rate)
        mib = [f"{bytes / 2**20:.0f} MiB" for bytes in (memory, kernel)]
        used = f"{100 * (user + system):.1f} %, {100 * system:.1f} %"
        p95 = f"{figures['latency_ms']['p95']:.1f} ms" if figures else "–"
        print(f"| {clients} | {rate} | {clients * rate} | {used} | {mib[0]} | {mib[1]} | {p95} |", flush=True)


if __name__ == "__main__":
    main()
