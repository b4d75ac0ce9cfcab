"""PDF: the text of its pages, each under a heading with its number, by pypdf."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import Final

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from memory3.ingest.files import FileOptions
from memory3.ingest.records import Parsed, SkipError
from memory3.ingest.writer import TextWriter

_BROKEN_WORD: Final = re.compile(r"(?<=[a-zà-ÿ])-\n(?=[a-zà-ÿ])")


def parse(data: bytes, options: FileOptions) -> Iterator[Parsed]:
    """The whole text; the title from the document's properties."""
    # pypdf tells its log of every small fault of a file, on the user's terminal by default.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    if not data.strip():
        return
    try:
        text, title = _read(data)
    except SkipError:
        raise
    except (DependencyError, FileNotDecryptedError) as error:
        raise SkipError("ENCRYPTED", "encrypted: save a copy without a password") from error
    except Exception as error:
        # A broken PDF can make its reader fail in any way; none of them may end the whole run.
        raise SkipError("MALFORMED", f"not a PDF that can be read: {error}") from error
    if not text:
        raise SkipError("EMPTY", "no text in it: scanned pages need OCR first")
    yield Parsed(text, title or options.fallback_title)


def _read(data: bytes) -> tuple[str, str]:
    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise SkipError("ENCRYPTED", "encrypted: save a copy without a password")
    writer = TextWriter()
    for number, page in enumerate(reader.pages, 1):
        text = _joined(page.extract_text())
        if text:
            writer.heading(1, f"Page {number}")
            for paragraph in text.split("\n\n"):
                writer.paragraph(paragraph)
    title = reader.metadata.title if reader.metadata is not None else None
    return writer.text(), " ".join((title or "").split())


def _joined(text: str) -> str:
    # A word broken at the end of a line becomes whole; the line ends themselves stay.
    return _BROKEN_WORD.sub("", text.replace("\0", "")).strip()
