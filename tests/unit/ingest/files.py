"""Makes real files of every kind that ingestion reads."""

from __future__ import annotations

from pathlib import Path

from fpdf import FPDF
from fpdf.enums import AccessPermission


def write_pdf(
    path: Path, pages: list[str], *, title: str = "", owner: str = "", password: str = ""
) -> Path:
    """A real PDF with one paragraph a page; a page without text is only a drawing."""
    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    if title:
        pdf.set_title(title)
    if owner:
        pdf.set_encryption(
            owner_password=owner, user_password=password, permissions=AccessPermission.none()
        )
    for text in pages:
        pdf.add_page()
        if text:
            pdf.multi_cell(0, 8, text)
        else:
            pdf.line(10, 10, 100, 100)
    pdf.output(str(path))
    return path


def write(path: Path, content: str | bytes) -> Path:
    """A file with this content, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
