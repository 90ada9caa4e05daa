"""Executes the documentation: every console block and client sample of README.md and assets/docs, every link.

The rules for pages:

- A `console` block is run in a shell, page by page; lines that begin with `$ ` are commands, the lines below a command
  are what it prints. Each of these must be printed, in this order; `…` stands for any text, and epochs, tokens,
  times and fractions may differ. The exit code must be 0, or that of `<!-- exits: CODE -->` above the block.
- `make run` and `wscast` start a server, in place of the one that the page started on the same port. A page that
  uses 127.0.0.1:5000 without starting a server gets one with the default settings.
- `<!-- server: FLAGS -->` above a block starts with a new shell and a server with these flags.
- `javascript`, `python` and `html` blocks are run as programs. `<!-- prints: LINE -->` above the block, once or more,
  says what they print; without it they must end by themselves with exit code 0.
- `<!-- not executed: REASON -->` above a block skips it, and the reason is printed.
- `toml` blocks are settings files: `wscast --check-config` must accept them. The blocks after them find the last one as
  `wscast.toml`.
- `json` blocks must be JSON. Blocks of the languages in NOT_PROGRAMS are not looked at; others are faults.

Set WSCAST_BIN to the binary and CLIENT_MODULES to the folder with the npm packages of tests/clients. Names of pages
as arguments run these pages only.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import checks
import openapi
import symptoms
from pages import ROOT, pages
from terminal import Failure, Terminal

PROGRAMS = ("javascript", "python", "html")
NOT_PROGRAMS = ("text", "nginx", "caddyfile", "ini", "yaml")
SERVED = Path(__file__).with_name("served.mjs")


def commands(block):
    """The commands of a console block with what each prints: `$ command`, with `\\` at the end to go on."""
    found = []
    for line in block.lines:
        if found and found[-1][0].endswith("\\"):
            found[-1][0] += "\n" + line
        elif line.startswith("# "):
            raise Failure("a command of root is never executed: say `not executed` above the block")
        elif line.startswith("$ "):
            found.append([line[2:], []])
        elif not found:
            raise Failure("the block begins with output")
        elif line.strip():
            found[-1][1].append(line)
    return found


def run_console(block, terminal):
    """Runs the commands of a block; one that starts a server itself gets no other."""
    listed = commands(block)
    if not any(command.startswith(("make run", "wscast", "target/release/wscast")) for command, _ in listed):
        terminal.ensure_server(block.text)
    exits = block.noted("exits")
    for command, printed in listed:
        terminal.run(re.sub(r"\s+# .*$", "", command), printed, int(exits[0]) if exits else None)


def run_program(block, terminal):
    """Runs a client sample as a program of its own."""
    source = block.text
    if block.language == "html":
        for field, value in re.findall(r'<input id="(\w+)"[^>]* value="([^"]*)"', source):
            terminal.environment[f"FIELD_{field}"] = value
        source = "".join(re.findall(r"<script[^>]*>(.*?)</script>", source, re.DOTALL))
    terminal.ensure_server("127.0.0.1:5000")
    name = "sample.py" if block.language == "python" else "sample.mjs"
    (terminal.folder / name).write_text(terminal.translated(source), encoding="utf-8")
    for folder, target in (("node_modules", os.environ["CLIENT_MODULES"]), ("client", ROOT / "assets/client")):
        if not (terminal.folder / folder).exists():
            (terminal.folder / folder).symlink_to(target)
    terminal.environment["SERVER_URL"] = terminal.translated("http://127.0.0.1:5000/")
    if block.language == "python":
        command = [sys.executable, "-u", name]
    else:
        command = ["node", "--no-warnings", "--import", SERVED.as_uri(), name]
    terminal.program(command, block.noted("prints"))


def check_settings(block, terminal):
    """Writes a settings file and checks it, with a secret for rules that need tokens."""
    (terminal.folder / "wscast.toml").write_text(block.text, encoding="utf-8")
    binary = Path(os.environ["WSCAST_BIN"]).resolve()
    command = [binary, "--config", "wscast.toml", "--check-config"]
    environment = {**os.environ, "SECRET_KEY": "0123456789abcdef0123456789abcdef"}
    checked = subprocess.run(
        command, cwd=terminal.folder, env=environment, capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        raise Failure(checked.stderr)


def flags(binary):
    """The flags that the help texts of the program list."""
    helps = [[binary, *command, "--help"] for command in ([], ["token"], ["healthcheck"], ["sub"], ["pub"], ["bench"])]
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in helps]
    return set(re.findall(r"--[a-z][a-z-]+", "".join(texts)))


class Summary:
    """Counts what was executed, and says what was not and what failed."""

    def __init__(self):
        self.executed, self.skipped, self.failed = 0, [], []

    def execute(self, block, terminal):
        reasons = block.noted("not executed")
        if reasons:
            self.skipped.append(f"{block}: {reasons[0]}")
            return
        if block.language in NOT_PROGRAMS:
            return
        try:
            for flags in block.noted("server"):
                terminal.reset()
                terminal.serve(f"wscast {flags}".strip())
            if block.language == "console":
                run_console(block, terminal)
            elif block.language in PROGRAMS:
                run_program(block, terminal)
            elif block.language == "toml":
                check_settings(block, terminal)
            elif block.language == "json":
                self.failed += checks.json_failures(block)
                return
            else:
                raise Failure("a block of a language that is neither run nor known not to be")
            self.executed += 1
        except Failure as failure:
            self.failed.append(f"{block}: {failure}")

    def print(self):
        for line in self.skipped:
            print(f"not executed {line}")
        for line in self.failed:
            print(f"FAILED {line}")
        print(f"{self.executed} blocks executed, {len(self.skipped)} not executed, {len(self.failed)} failures")


def main(wanted):
    binary = Path(os.environ["WSCAST_BIN"]).resolve()
    every, summary = pages(), Summary()
    for page in every:
        if wanted and page.name not in wanted:
            continue
        with Terminal(binary) as terminal:
            for block in page.blocks:
                summary.execute(block, terminal)
    with Terminal(binary) as terminal:
        terminal.serve("wscast")
        server_url = terminal.translated("http://127.0.0.1:5000")
        summary.failed += checks.failures(every, server_url, flags(binary))
        summary.failed += openapi.failures(every, server_url)
    summary.failed += symptoms.failures(every, binary)
    summary.print()
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
