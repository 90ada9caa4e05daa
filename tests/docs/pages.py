"""Reads the Markdown of the documentation: headings, anchors, links, tables and fenced blocks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^(\s*)(```+)(\w*)\s*$")
HEADING = re.compile(r"^(#+)\s+(.*?)\s*$")
COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`[^`]*`")


class Block:
    """A fenced block. `notes` are the HTML comments on the lines right above it, in order."""

    def __init__(self, page, line, language, notes):
        self.page, self.line, self.language, self.notes = page, line, language, notes
        self.lines = []

    def __str__(self):
        return f"{self.page}:{self.line} ({self.language})"

    @property
    def text(self):
        return "".join(line + "\n" for line in self.lines)

    def noted(self, name):
        """The texts of the comments `<!-- name: text -->` above the block."""
        return [note[len(name) + 1 :].strip() for note in self.notes if note.startswith(name + ":")]


class Page:
    """One Markdown file of the repository."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.headings, self.blocks, self.links, self.rows = [], [], [], []
        self.prose = ""
        self.text = path.read_text(encoding="utf-8")
        self._read()
        self.anchors = anchors(title for _, title in self.headings)

    def __str__(self):
        return self.name

    def _read(self):
        block, fence, indent, notes = None, None, 0, []
        for number, line in enumerate(self.text.splitlines(), 1):
            if block:
                if line.strip() == fence:
                    block = None
                else:
                    block.lines.append(line[indent:])
                continue
            opening, comment = FENCE.match(line), COMMENT.match(line)
            if opening:
                indent, fence = len(opening[1]), opening[2]
                block = Block(self, number, opening[3], notes)
                self.blocks.append(block)
            elif comment:
                notes.append(comment[1])
                continue
            else:
                self._read_prose(number, line)
            notes = []

    def _read_prose(self, number, line):
        self.prose += line + "\n"
        heading = HEADING.match(line)
        if heading:
            self.headings.append((len(heading[1]), heading[2]))
        if line.startswith("|") and not line.startswith("|-"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            section = self.headings[-1][1] if self.headings else ""
            self.rows.append((section, [cell.strip() for cell in cells]))
        self.links += [(number, target) for target in LINK.findall(CODE_SPAN.sub("", line))]

    def first_cells(self, section):
        """The first cells of the table rows below the heading `section`, less the table's header."""
        return [cells[0] for title, cells in self.rows if title == section][1:]


def anchors(titles):
    """The anchors that GitHub gives to headings."""
    found = set()
    for title in titles:
        plain = LINK.sub(lambda link: link[0][1 : link[0].index("]")], title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count, unique = 0, slug
        while unique in found:
            count += 1
            unique = f"{slug}-{count}"
        found.add(unique)
    return found


def pages():
    """Every page of the documentation, the README first."""
    return [Page(ROOT / "README.md"), *map(Page, sorted((ROOT / "assets/docs").rglob("*.md")))]
