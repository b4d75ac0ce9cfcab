"""reStructuredText: its words with headings and lists, by docutils. Nothing is included or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import SystemMessage

from memory3.ingest.files import FileOptions
from memory3.ingest.records import Parsed, SkipError
from memory3.ingest.writer import TextWriter

_SETTINGS: Final[dict[str, Any]] = {
    # A document must not read other files, run code or raw output, or stop at its own faults.
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 6,
    "input_encoding": "unicode",
    "doctitle_xform": True,
    "smart_quotes": False,
    "warning_stream": False,
}

# Sphinx directives and roles are unknown to docutils, which keeps their source in its complaint.
_DIRECTIVE: Final = re.compile(r"\s*\.\. ([\w:-]+)::[ \t]*(.*)")
_OPTION: Final = re.compile(r"\s*:[\w-]+:.*")
_ROLE: Final = re.compile(r":[\w:+.-]+:`([^`<]*)(?:<[^>]*>)?`")
_WITHOUT_PROSE: Final = re.compile(
    r"toctree|auto\w+|index|currentmodule|module|highlight|tabularcolumns|include|literalinclude"
    r"|raw|csv-table|image|figure|math|only|py:\w+module"
)
# Of these the words behind the colons are prose, too.
_PROSE_ARGUMENT: Final = re.compile(r"version\w+|deprecated|seealso|todo|rubric")


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed]:
    """The text with headings as ``#`` lines; the title is the document's."""
    source = options.decode(data)
    try:
        tree = publish_doctree(source, settings_overrides=_SETTINGS)
    except (SystemMessage, RecursionError, ValueError, AttributeError) as error:
        raise SkipError("MALFORMED", f"not reStructuredText that can be read: {error}") from error
    writer = TextWriter()
    visitor = _Visitor(tree, writer)
    tree.walkabout(visitor)
    title = str(tree.get("title", "")) or writer.first_heading
    yield Parsed(writer.text(), title or options.fallback_title)


class _Visitor(nodes.GenericNodeVisitor):
    """Writes each block of the tree; what it does not know it looks into."""

    def __init__(self, document: nodes.document, writer: TextWriter) -> None:
        super().__init__(document)
        self._writer = writer
        self._level = 1

    def default_visit(self, node: nodes.Node) -> None:
        """Look into the node."""

    def default_departure(self, node: nodes.Node) -> None:
        """Nothing to end."""

    def visit_section(self, node: nodes.Node) -> None:
        self._level += 1

    def depart_section(self, node: nodes.Node) -> None:
        self._level -= 1

    def visit_title(self, node: nodes.Node) -> None:
        in_section = isinstance(node.parent, nodes.section | nodes.document)
        if in_section:
            self._writer.heading(self._level, _words(node))
        else:
            self._writer.paragraph(_words(node))
        raise nodes.SkipNode

    def visit_subtitle(self, node: nodes.Node) -> None:
        self._writer.heading(2, _words(node))
        raise nodes.SkipNode

    def visit_paragraph(self, node: nodes.Node) -> None:
        self._writer.paragraph(_words(node))
        raise nodes.SkipNode

    visit_term = visit_line = visit_attribution = visit_caption = visit_paragraph
    visit_rubric = visit_field_name = visit_paragraph

    def visit_literal_block(self, node: nodes.Node) -> None:
        self._writer.code(node.astext())
        raise nodes.SkipNode

    visit_doctest_block = visit_math_block = visit_literal_block

    def visit_bullet_list(self, node: nodes.Node) -> None:
        self._writer.open_list()

    def visit_enumerated_list(self, node: nodes.Element) -> None:
        self._writer.open_list(int(node.get("start", 1)))

    def depart_bullet_list(self, node: nodes.Node) -> None:
        self._writer.close_list()

    depart_enumerated_list = depart_bullet_list

    def visit_list_item(self, node: nodes.Node) -> None:
        self._writer.open_item()

    def visit_row(self, node: nodes.Element) -> None:
        cells = (" ".join(entry.astext().split()) for entry in node.children)
        self._writer.line(" | ".join(cell for cell in cells if cell))
        raise nodes.SkipNode

    def visit_comment(self, node: nodes.Node) -> None:
        raise nodes.SkipNode

    visit_docinfo = visit_substitution_definition = visit_target = visit_comment
    visit_pending = visit_raw = visit_comment

    def visit_system_message(self, node: nodes.Element) -> None:
        for block in node.findall(nodes.literal_block):
            self._writer.paragraph(_prose_of_directive(block.astext()))
        raise nodes.SkipNode


def _words(node: nodes.Node) -> str:
    return _ROLE.sub(lambda role: role.group(1).strip() or role.group(0), node.astext()).replace(
        "\n", " "
    )


def _prose_of_directive(source: str) -> str:
    first, _, rest = source.partition("\n")
    directive = _DIRECTIVE.match(first)
    if directive is None or _WITHOUT_PROSE.fullmatch(directive.group(1)):
        return ""
    body = [line.strip() for line in rest.split("\n") if not _OPTION.fullmatch(line)]
    argument = directive.group(2) if _PROSE_ARGUMENT.fullmatch(directive.group(1)) else ""
    return _ROLE.sub(lambda role: role.group(1).strip(), " ".join([argument, *body]))
