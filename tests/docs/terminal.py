"""The reader's terminal: a shell, the servers started in it, and the programs that run beside it.

Addresses of the pages, such as 127.0.0.1:5000, stand for the free ports that the servers really have.
"""

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

DEADLINE_SECONDS = 30
"""How long anything that must happen may take before a test gives up on it."""

DEFAULT_PORT = "5000"
REDIS_URL = "redis://127.0.0.1:6379"
ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost):(\d+)")
ANNOUNCED = re.compile(r"\bwss?://127\.0\.0\.1:(\d+)/ws\b")
SERVER = re.compile(r"^((?:\w+=\S+ )*)wscast(?: serve)?(?= -|$)(?!.*--(?:help|version|check-config))")
CLIENT = re.compile(r"\bwscast (?:sub|pub|bench) ")
MAKE_RUN = re.compile(r'make run(?: ARGS="([^"]*)")?')

# Values that differ from run to run: epochs, tokens and client ids, times, fractions.
VARYING = re.compile(r"\b(?:[0-9a-f]{16}|eyJ[\w.-]+|\d+\.\d+|1\d{12}|1\d{9})\b")


class Failure(Exception):
    """A block did not do what its page says."""


class Output:
    """The lines that a process prints, read on a thread so that waiting for one has a deadline."""

    def __init__(self, pipe):
        self._lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, args=[pipe], daemon=True).start()

    def _read(self, pipe):
        for line in pipe:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def next(self, end):
        """The next line, or None at the end of the output or at the time `end`."""
        try:
            line = self._lines.get(timeout=max(0, end - time.monotonic()))
        except queue.Empty:
            return None
        if line is not None:
            self.seen.append(line)
        return line

    def expect(self, lines, end):
        """Reads until each of `lines` was printed, in this order; returns those that were not."""
        missing = list(lines)
        while missing:
            line = self.next(end)
            if line is None:
                break
            if matches(missing[0], line):
                missing.pop(0)
        return missing


class Terminal:
    """A shell in a folder of its own, as the reader of one page has it."""

    def __init__(self, binary):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.ports = {}
        self._servers = {}
        self._redis = None
        self._commands = self._pipes = 0
        tools = self.folder / ".bin"
        tools.mkdir()
        (tools / "wscast").symlink_to(binary)
        (self.folder / ".curlrc").write_text('silent\nshow-error\nnoproxy = "*"\nmax-time = 30\n')
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("WSCAST_") and name not in ("HOST", "PORT", "SECRET_KEY")
        } | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "CURL_HOME": str(self.folder),
            "WSCAST_HOST": "127.0.0.1",
            "WSCAST_PORT": "0",
        }
        self._start_shell()

    def _start_shell(self):
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=self.folder,
            env=self.environment,
        )
        self._output = Output(self._shell.stdout)
        self._beside = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reset()
        self._end_shell()
        if self._redis:
            self._redis.terminate()
            self._redis.wait(DEADLINE_SECONDS)
        self._folder.cleanup()

    def _end_shell(self):
        self._shell.stdin.write("kill $(jobs -p) 2>/dev/null; exit\n")
        self._shell.stdin.close()
        self._shell.wait(DEADLINE_SECONDS)

    def reset(self):
        """Ends the servers and gives the reader a new shell."""
        for port in list(self._servers):
            self._end_server(port)
        self._end_shell()
        self._start_shell()

    def _replace_shell(self):
        """Kills a shell that hangs, and the servers that only it could wait for."""
        for pid in self._servers.values():
            os.kill(pid, signal.SIGKILL)
        self._servers.clear()
        self.ports.clear()
        self._shell.kill()
        self._shell.wait()
        self._start_shell()

    def ensure_server(self, text):
        """Starts the server that `text` needs, with the default settings, if none runs on that port."""
        if DEFAULT_PORT in (port for _, port in ADDRESS.findall(text)) and DEFAULT_PORT not in self.ports:
            self.serve("wscast")

    def translated(self, text):
        """`text` with the real ports in place of those that the page uses."""
        return ADDRESS.sub(lambda found: f"{found[1]}:{self.ports.get(found[2], found[2])}", text)

    def run(self, command, expected, exit_code=None):
        """Runs one command line and compares what it prints; one with an exit code is no server."""
        command = MAKE_RUN.sub(lambda run: f"wscast {run[1] or ''}".strip(), command)
        command = command.replace("target/release/wscast", "wscast").replace("make build", "true")
        if CLIENT.search(command):
            self.ensure_server(f"127.0.0.1:{DEFAULT_PORT}")
            self._shell_run(f"export WSCAST_URL=ws://127.0.0.1:{self.ports[DEFAULT_PORT]}")
        background = command.endswith("&")
        command = command.removesuffix("&").strip()
        status = 0
        if exit_code is None and SERVER.match(command):
            printed = self.serve(command)
        elif background:
            printed = self._run_beside(self.translated(command))
        else:
            status, printed = self._shell_run(self.translated(command))
        missing = self._missing(expected, printed)
        if missing or status != (exit_code or 0):
            text = "\n".join(printed + [line for output in self._beside for line in output.seen])
            raise Failure(f"`{command}` ended with {status} and did not print {missing}; it printed:\n{text}")

    def _run_beside(self, command):
        """Starts a command that goes on, and waits for its first line. Its output is compared with the next commands'."""
        pipe, output = self._pipe()
        self._shell_run(f"{command} >{pipe} 2>&1 &")
        if output.next(time.monotonic() + DEADLINE_SECONDS) is None:
            raise Failure(f"`{command} &` printed nothing")
        self._beside.append(output)
        return []

    def _missing(self, expected, printed):
        """The lines of `expected` that neither the command printed nor what runs beside it, each in this order."""
        missing = list(expected)
        for line in printed:
            if missing and matches(missing[0], self._untranslated(line)):
                missing.pop(0)
        end = time.monotonic() + DEADLINE_SECONDS
        for output in self._beside:
            missing = output.expect(missing, end)
        return missing

    def _pipe(self):
        """Creates a named pipe; returns its path and the output written to it."""
        self._pipes += 1
        pipe = self.folder / f".pipe-{self._pipes}"
        os.mkfifo(pipe)
        # Opened for writing too, so that opening does not wait for a writer.
        return pipe, Output(os.fdopen(os.open(pipe, os.O_RDWR), encoding="utf-8"))

    def _shell_run(self, command):
        """Runs a command in the shell; returns its exit code and the lines it printed."""
        self._commands += 1
        sentinel = f"--done-{self._commands}-"
        self._shell.stdin.write(f"{command}\nprintf '\\n{sentinel}%s\\n' $?\n")
        end = time.monotonic() + DEADLINE_SECONDS
        printed = []
        while True:
            line = self._output.next(end)
            if line is None:
                self._replace_shell()
                raise Failure(f"`{command}` did not end; it printed:\n" + "\n".join(printed))
            if line.startswith(sentinel):
                return int(line[len(sentinel) :]), printed
            printed.append(line)

    def _untranslated(self, line):
        """`line` with the ports that the page uses."""
        names = {str(real): name for name, real in self.ports.items()}
        return ADDRESS.sub(lambda found: f"{found[1]}:{names.get(found[2], found[2])}", line)

    def serve(self, command):
        """Starts a server by a command line, in place of the one on the same port; returns what it prints."""
        port = DEFAULT_PORT
        found = re.search(r"--port (\d+)", command)
        if found:
            port = found[1]
            command = command.replace(found[0], "--port 0")
        if REDIS_URL in command:
            command = command.replace(REDIS_URL, self._redis_url())
        self._end_server(port)
        pipe, output = self._pipe()
        log = pipe.with_suffix(".log")
        _, printed = self._shell_run(f"{command} >{pipe} 2>{log} & echo $!")
        pid = int(next(line for line in printed if line.isdigit()))
        end = time.monotonic() + DEADLINE_SECONDS
        while not (line := output.next(end)) or not ANNOUNCED.search(line):
            if line is None:
                raise Failure(f"`{command}` did not start; its log:\n{log.read_text()}")
        self._servers[port] = pid
        self.ports[port] = int(ANNOUNCED.search(line)[1])
        return output.seen

    def _end_server(self, port):
        pid = self._servers.pop(port, None)
        self.ports.pop(port, None)
        if pid is None:
            return
        status, _ = self._shell_run(f"kill -TERM {pid}; wait {pid}")
        if status:
            raise Failure(f"a server ended with {status} after SIGTERM")

    def _redis_url(self):
        """The address of this terminal's Redis, which starts on first use."""
        socket = self.folder / ".redis"
        if not self._redis:
            self._redis = subprocess.Popen(
                [*redis_command(), "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder,
            )
            output, end = Output(self._redis.stdout), time.monotonic() + DEADLINE_SECONDS
            while (line := output.next(end)) is not None and "eady to accept connections" not in line:
                pass
            if line is None:
                raise Failure("redis-server did not start:\n" + "\n".join(output.seen))
        return f"unix://{socket}"

    def program(self, command, expected):
        """Runs a client until it has printed `expected`; without `expected`, until it ends by itself."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        output, end = Output(process.stdout), time.monotonic() + DEADLINE_SECONDS
        try:
            missing = output.expect(expected, end)
            if not expected:
                process.wait(DEADLINE_SECONDS)
            ended = process.poll()
        except subprocess.TimeoutExpired:
            missing, ended = ["the end of the program"], None
        finally:
            process.kill()
            process.wait()
        if missing or ended:
            raise Failure(f"the program did not print {missing}; it printed:\n" + "\n".join(output.seen))


def matches(expected, line):
    """Whether a printed line is the one of the page; `…` stands for any text."""
    parts = [re.escape(part) for part in normal(expected).split("…")]
    return re.fullmatch(".*".join(parts), normal(line)) is not None


def normal(line):
    """`line` with `…` for the values that vary."""
    return VARYING.sub("…", line.strip())


def redis_command():
    """How to start a Redis: Debian's redis-tools has the server under the name of another tool."""
    for name in ("redis-server", "valkey-server"):
        if shutil.which(name):
            return [name]
    check = shutil.which("redis-check-rdb")
    return ["bash", "-c", f"exec -a redis-server {shlex.quote(check or 'redis-server')} \"$@\"", "redis"]
