"""Compares the texts that troubleshooting.md quotes with those that the program prints."""

import errno
import os
import re
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from pages import CODE_SPAN, ROOT

DEADLINE_SECONDS = 30
SYSTEM_ERRORS = {os.strerror(number) for number in errno.errorcode}
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
WORDS = re.compile(r"[a-z]+ [a-z]+ [a-z]+")
VARIABLE = re.compile(r'…|"[^"]*"|^(?:--[a-z-]+|[A-Z_]+)(?=[ :])')
# RFC 5737 and RFC 2606: no machine has this address, no resolver knows this name.
FOREIGN_ADDRESS, UNKNOWN_NAME = "192.0.2.1", "name.invalid"


def failures(pages, binary):
    """Every quoted text that the program does not print, and every failed start that the tables do not list."""
    found = []
    printed, starts = program_texts(), failed_starts(binary)
    for page in pages:
        if page.path.name == "troubleshooting.md":
            found += text_failures(page, printed) + start_failures(page, starts)
    return found


def text_failures(page, printed):
    """Checks the code spans of the tables' first cells, and code spans with three words in a row elsewhere.

    A `…`, a value in quotes and the name of a setting stand for anything; the rest must occur in the source. An error of
    the system may stand beside it.
    """
    quoted = first_cell_spans(page)
    quoted += [span for span in CODE_SPAN.findall(page.prose) if WORDS.search(span) and span not in quoted]
    found = [] if quoted else [f"{page} quotes no text of the program"]
    for span in quoted:
        found += [
            f"{page}: the program never prints {piece!r}, as {span} says"
            for piece in fixed_pieces(span)
            if piece not in SYSTEM_ERRORS and not any(piece in text for text in printed)
        ]
        if span.strip("`") in SYSTEM_ERRORS:
            found.append(f"{page}: the program never prints {span} alone")
    return found


def start_failures(page, starts):
    """Each line with which a start fails is that of a symptom."""
    symptoms = [symptom_pattern(span) for span in first_cell_spans(page)]
    return [
        f"{page} has no symptom for: {line}"
        for line in starts
        if not any(symptom.fullmatch(line) for symptom in symptoms)
    ]


def symptom_pattern(span):
    """A symptom is the start of a line; a `…` and a value in quotes stand for any text."""
    fixed = re.split(r'…|(?<=")[^"]*(?=")', span.strip("`"))
    return re.compile(".*".join(map(re.escape, fixed)) + ".*")


def failed_starts(binary):
    """The last lines of servers that cannot start, without the name of the program."""
    key = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]
    with tempfile.TemporaryDirectory() as folder, used_port() as port:
        private, public = Path(folder, "key.pem"), Path(folder, "public.pem")
        subprocess.run([*key, "-out", private], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        starts = [
            ([], {"PORT": "70000"}),
            (["--host", UNKNOWN_NAME], {}),
            (["--host", FOREIGN_ADDRESS], {}),
            (["--host", "127.0.0.1", "--port", port], {}),
            ([], {"SECRET_KEY": "short"}),
            (["--redis", f"redis://127.0.0.1:{closed_port()}"], {}),
            (["--public-key-file", public], {}),
        ]
        return [failed_start(binary, *start) for start in starts]


def failed_start(binary, flags, variables):
    environment = {name: value for name, value in os.environ.items() if not re.match("WSCAST_|PORT$|HOST$|SECRET_KEY$", name)}
    if "PORT" not in variables and "--port" not in flags:
        environment["WSCAST_PORT"] = "0"
    ended = subprocess.run(
        [binary, *flags], env=environment | variables, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    return (ended.stderr.splitlines() or ["nothing"])[-1].removeprefix("wscast: ")


@contextmanager
def used_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def closed_port():
    with used_port() as port:
        return port


def first_cell_spans(page):
    return [span for _, cells in page.rows for span in CODE_SPAN.findall(cells[0])]


def program_texts():
    """The strings of the source, without those of its tests."""
    sources = [path.read_text(encoding="utf-8").split("#[cfg(test)]")[0] for path in (ROOT / "src").rglob("*.rs")]
    literals = [literal for source in sources for literal in STRING.findall(source)]
    return [re.sub(r"\\\n\s*", "", literal) for literal in literals]


def fixed_pieces(span):
    """The parts of a code span that do not vary."""
    pieces = VARIABLE.split(span.strip("`"))
    return [piece for piece in (piece.strip(" :;,") for piece in pieces) if piece]
