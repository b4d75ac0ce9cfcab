"""HTML: the words a reader sees, without menus and scripts, by Beautiful Soup."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Final

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PreformattedString, Tag

from memory3.ingest.files import FileOptions
from memory3.ingest.records import Parsed, SkipError
from memory3.ingest.writer import TextWriter

_UNSEEN: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "math", "canvas", "iframe", "object"}
    | {"head", "nav", "footer", "form", "button", "select", "input", "textarea", "dialog", "menu"}
)
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl"}
    | {"dt", "fieldset", "figcaption", "figure", "header", "hr", "html", "legend", "main", "p"}
    | {"section", "summary", "table", "tbody", "thead", "tfoot"}
)
_HEADINGS: Final = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_SPACE: Final = re.compile(r"\s+")
_DECLARED: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.I)


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed]:
    """The visible text with headings as ``#`` lines; the title from ``<title>`` or a heading."""
    soup = _soup(_markup(data, options))
    title = soup.title.get_text(" ", strip=True) if soup.title is not None else ""
    root = soup.find("main") or soup.body or soup
    writer = TextWriter()
    _write(root, writer)
    yield Parsed(writer.text(), title or writer.first_heading or options.fallback_title)


def text_of(fragment: str) -> str:
    """The visible text of a piece of HTML, on one line."""
    writer = TextWriter()
    _write(_soup(fragment), writer)
    return " ".join(writer.text().lstrip("# ").split())


def _markup(data: bytes, options: FileOptions) -> str:
    declared = _DECLARED.search(data[:2048])
    if declared is not None and b"\0" not in data:
        try:
            return data.decode(declared.group(1).decode("ascii")).replace("\r\n", "\n")
        except (LookupError, UnicodeDecodeError):
            pass  # Many pages declare what they are not; the bytes decide then.
    return options.decode(data)


def _soup(markup: str) -> BeautifulSoup:
    with warnings.catch_warnings():
        # Beautiful Soup warns of input that looks like a file name, a URL or XML; here it is none
        # of these but what the user asked to read.
        warnings.simplefilter("ignore")
        try:
            return BeautifulSoup(markup, "html.parser")
        except (AssertionError, RecursionError, ValueError) as error:
            raise SkipError("MALFORMED", f"not HTML that can be read: {error}") from error


def _write(root: Tag, writer: TextWriter) -> None:
    # A stack instead of recursion: pages nest thousands deep. None closes the tag beside it.
    state = _State(writer)
    stack: list[tuple[object, Tag | None]] = [(root, None)]
    while stack:
        node, closing = stack.pop()
        if closing is not None:
            state.close(closing)
        elif isinstance(node, Tag):
            if _is_hidden(node):
                continue
            if node.name == "pre":
                state.code(node.get_text())
                continue
            state.open(node)
            stack.append((None, node))
            stack.extend((child, None) for child in reversed(node.contents))
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            state.words(str(node))
    state.end_block()


def _is_hidden(tag: Tag) -> bool:
    if tag.name in _UNSEEN or tag.has_attr("hidden"):
        return True
    if tag.get("aria-hidden") == "true":
        return True
    style = str(tag.get("style", "")).replace(" ", "").lower()
    return "display:none" in style or "visibility:hidden" in style


class _State:
    """The words of the block being read, and the block's kind."""

    def __init__(self, writer: TextWriter) -> None:
        self._writer = writer
        self._words: list[str] = []
        self._row: list[str] | None = None
        self._heading = 0

    def words(self, text: str) -> None:
        self._words.append(_SPACE.sub(" ", text))

    def code(self, text: str) -> None:
        self.end_block()
        self._writer.code(text)

    def open(self, tag: Tag) -> None:
        name = tag.name
        if name == "br":
            self._words.append("\n")
        elif name == "img" and tag.get("alt"):
            self._words.append(str(tag["alt"]))
        elif name in _HEADINGS:
            self.end_block()
            self._heading = _HEADINGS[name]
        elif name in ("ul", "ol"):
            self.end_block()
            self._writer.open_list(1 if name == "ol" else None)
        elif name == "li":
            self.end_block()
            self._writer.open_item()
        elif name == "tr":
            # Pages often leave out the end tags of rows and cells.
            self._end_row()
            self.end_block()
            self._row = []
        elif name in ("td", "th") and self._row is not None:
            self._end_cell()
        elif name in _BLOCKS and self._row is None:
            self.end_block()

    def close(self, tag: Tag) -> None:
        name = tag.name
        if name in ("td", "th") and self._row is not None:
            self._end_cell()
        elif name in ("tr", "table") and self._row is not None:
            self._end_row()
        elif name in ("ul", "ol"):
            self.end_block()
            self._writer.close_list()
        elif name in _HEADINGS or name == "li" or (name in _BLOCKS and self._row is None):
            self.end_block()

    def end_block(self) -> None:
        text = self._take()
        if self._heading:
            self._writer.heading(self._heading, text)
        else:
            self._writer.paragraph(text)
        self._heading = 0

    def _end_cell(self) -> None:
        cell = self._take().replace("\n", " ")
        if cell and self._row is not None:
            self._row.append(cell)

    def _end_row(self) -> None:
        if self._row is not None:
            self._end_cell()
            self._writer.line(" | ".join(self._row))
            self._row = None

    def _take(self) -> str:
        text = "".join(self._words).strip()
        self._words.clear()
        return text
