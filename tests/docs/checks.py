"""Compares the pages with each other and with the program: links, translations, tables of codes and routes."""

import json
import re
import urllib.error
import urllib.request

from pages import ROOT

README_LINES_MAX = 150
README_BYTES_MAX = 9 * 1024
PICTURE_BYTES_MAX = 150_000


def failures(pages, server_url, flags):
    """Every fault of the pages, as one line each; `flags` are the flags of the program."""
    by_path = {page.path: page for page in pages}
    found = size_failures(by_path[ROOT / "README.md"]) + unlisted_pages(by_path)
    for page in pages:
        found += link_failures(page, by_path)
        found += translation_failures(page, by_path)
    for page in pages:
        if page.path.name == "protocol.md":
            found += code_failures(page)
        found += flag_failures(page, flags)
    found += route_failures(by_path[ROOT / "assets/docs/http.md"], server_url)
    found += http_code_failures(by_path[ROOT / "assets/docs/http.md"])
    return found


def size_failures(readme):
    lines, size = len(readme.text.splitlines()), len(readme.text.encode())
    if lines > README_LINES_MAX or size > README_BYTES_MAX:
        return [f"README.md has {lines} lines and {size} bytes; at most {README_LINES_MAX} lines and {README_BYTES_MAX} bytes"]
    return []


def unlisted_pages(by_path):
    """Every page has a link in the table of its language's README."""
    found = []
    for path, page in by_path.items():
        folder = path.parent
        readme = folder / "README.md" if folder.name == "zh" else ROOT / "README.md"
        listed = {(readme.parent / target).resolve() for _, target in by_path[readme].links}
        if path.name != "README.md" and path not in listed:
            found.append(f"{by_path[readme]} has no link to {page}")
    return found


def link_failures(page, by_path):
    found = []
    for line, target in page.links:
        if re.match(r"(https?|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            found.append(f"{page}:{line} links to {target}: there is no such file")
        elif anchor and path not in by_path:
            found.append(f"{page}:{line} links to {target}: anchors are checked in pages only")
        elif anchor and anchor not in by_path[path].anchors:
            found.append(f"{page}:{line} links to {target}: that page has no such heading")
        elif path.suffix == ".png" and path.stat().st_size > PICTURE_BYTES_MAX:
            found.append(f"{page}:{line} shows {target}: more than {PICTURE_BYTES_MAX} bytes")
    return found


def translation_failures(page, by_path):
    """A Chinese page has the headings, blocks and table rows of its English page, in number and kind."""
    folder = ROOT / "assets/docs/zh"
    if page.path.parent != folder:
        return []
    english = ROOT / "README.md" if page.path.name == "README.md" else folder.parent / page.path.name
    if english not in by_path:
        return [f"{page} has no English page"]
    shapes = {
        "levels of headings": lambda page: [level for level, _ in page.headings],
        "languages of blocks": lambda page: [block.language for block in page.blocks],
        "cells of table rows": lambda page: [len(cells) for _, cells in page.rows],
    }
    return [
        f"{page} and {by_path[english]} differ in the {what}: {shape(page)} and {shape(by_path[english])}"
        for what, shape in shapes.items()
        if shape(page) != shape(by_path[english])
    ]


def code_failures(page):
    """The tables of error and close codes name the codes of the program, each once."""
    source = (ROOT / "src/protocol/code.rs").read_text(encoding="utf-8")
    errors = re.findall(r'Self::\w+ => "([a-z_]+)",', source.split("enum CloseCode")[0])
    # The server sends 1000 only in reply to a client's.
    closes = ["1000", *re.findall(r"Self::\w+ => (\d{4}),", source)]
    first_cells = [cells[0] for _, cells in page.rows]
    written_errors = [
        code for title, cells in page.rows if title in ("Error codes", "错误码") for code in re.findall(r"`([a-z_]+)`", cells[0])
    ]
    written_closes = [code for cell in first_cells for code in re.findall(r"\b(1\d{3}|4\d{3})\b", cell)]
    found = []
    for what, written, known in [("error", written_errors, errors), ("close", written_closes, closes)]:
        if not known or sorted(written) != sorted(known):
            differ = sorted(set(written) ^ set(known)) or "a name is present twice"
            found.append(f"{page}: the {what} codes are not those of src/protocol/code.rs: {differ}")
    return found


def route_failures(page, server_url):
    """Each route of the table exists on the server, with this method."""
    routes = [route for cell in page.first_cells("Routes") for route in re.findall(r"`([A-Z]+) (/[^`?]*)", cell)]
    found = [] if routes else [f"{page} has no table of routes"]
    for method, path in routes:
        concrete = re.sub(r"\{\w+\}", "lobby", path)
        request = urllib.request.Request(server_url + concrete, method="OPTIONS")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                allowed = response.headers.get("Allow") or response.headers.get("Access-Control-Allow-Methods", "")
        except urllib.error.HTTPError as error:
            allowed = f"status {error.code}"
        if method not in re.split(r"[ ,]+", allowed):
            found.append(f"{page}: {method} {path} is no route; the server says: {allowed}")
    return found


def http_code_failures(page):
    """Each error code of the table stands in the source as a text."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.rs"))
    codes = [code for title, cells in page.rows if title == "Errors" for code in re.findall(r"`([a-z_]+)`", cells[1])]
    found = [] if codes else [f"{page} has no table of errors"]
    return found + [f"{page}: no response has the code {code}" for code in codes if f'"{code}"' not in source]


def flag_failures(page, flags):
    """Each flag and variable that the prose names is one of the program."""
    named = re.findall(r"`(--[a-z][a-z-]+)", page.prose)
    variables = re.findall(r"`(WSCAST_[A-Z_]+)", page.prose)
    named += ["--" + variable[len("WSCAST_") :].lower().replace("_", "-") for variable in variables]
    return [f"{page}: the program has no flag {flag}" for flag in sorted(set(named)) if flag not in flags]


def json_failures(block):
    """A `json` block is one JSON document, or one a line."""
    try:
        json.loads(block.text)
        return []
    except ValueError:
        pass
    try:
        for line in block.lines:
            json.loads(line)
    except ValueError as error:
        return [f"{block} is not JSON: {error}"]
    return []
