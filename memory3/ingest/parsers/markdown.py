"""Markdown: its words without its marks, headings and lists kept, by markdown-it-py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from memory3.ingest.files import FileOptions
from memory3.ingest.parsers.html import text_of
from memory3.ingest.records import Parsed
from memory3.ingest.writer import TextWriter

_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE: Final = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed]:
    """The text with headings as ``#`` lines; the title from front matter or the first heading."""
    text = options.decode(data)
    title = ""
    front = _FRONT_MATTER.match(text)
    if front is not None:
        named = _FRONT_TITLE.search(front.group(1) or "")
        title = named.group(1).strip("\"'") if named else ""
        text = text[front.end() :]
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    writer = TextWriter()
    _write(tokens, writer)
    yield Parsed(writer.text(), title or writer.first_heading or options.fallback_title)


def _write(tokens: Sequence[Token], writer: TextWriter) -> None:
    row: list[str] = []
    for index, token in enumerate(tokens):
        match token.type:
            case "heading_open":
                writer.heading(int(token.tag[1]), _inline(tokens[index + 1]))
            case "inline" if tokens[index - 1].type in ("th_open", "td_open"):
                row.append(_inline(token))
            case "inline" if tokens[index - 1].type != "heading_open":
                writer.paragraph(_inline(token))
            case "tr_close":
                writer.line(" | ".join(row))
                row.clear()
            case "bullet_list_open" | "ordered_list_open":
                writer.open_list(_first_number(token))
            case "bullet_list_close" | "ordered_list_close":
                writer.close_list()
            case "list_item_open":
                writer.open_item()
            case "fence" | "code_block":
                writer.code(token.content)
            case "html_block":
                writer.paragraph(text_of(token.content))
            case _:
                pass


def _first_number(token: Token) -> int | None:
    if token.type == "bullet_list_open":
        return None
    return int(token.attrs.get("start", 1))


def _inline(token: Token) -> str:
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" " if child.type == "softbreak" else "\n")
        elif child.type == "image":
            parts.append(child.content)
        elif child.type == "html_inline" and child.content.lower().startswith("<br"):
            parts.append("\n")
    return "".join(parts)
