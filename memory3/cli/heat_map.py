"""A heat map as SVG: one square for each cell of a table. Plain text, so it needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

_CELL, _LEFT, _TOP = 26, 70, 60


def heat_map(rows: Sequence[Sequence[float]], *, title: str, row: str, column: str) -> str:
    """The SVG of a table; row 0 is at the bottom, where a model's first layer is.

    Args:
        rows: Values; red is above zero, blue below, white is zero. All rows have one length.
        title: Above the table.
        row: What a row is.
        column: What a column is.
    """
    strongest = max((abs(value) for line in rows for value in line), default=0.0) or 1.0
    width = _LEFT + _CELL * max(len(rows[0]), 12) + 20
    height = _TOP + _CELL * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="13">{escape(title)}</text>',
        f'<text x="10" y="42">strongest: {strongest:.4f}</text>',
    ]
    for index, line in enumerate(rows):
        y = _TOP + _CELL * (len(rows) - 1 - index)
        parts.append(f'<text x="10" y="{y + 17}">{escape(row)} {index}</text>')
        for place, value in enumerate(line):
            x = _LEFT + _CELL * place
            told = f"{row} {index}, {column} {place}: {value:.5f}"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" '
                f'fill="{_colour(value / strongest)}" stroke="#ccc">'
                f"<title>{escape(told)}</title></rect>"
            )
    bottom = _TOP + _CELL * len(rows) + 14
    parts.extend(
        f'<text x="{_LEFT + _CELL * place + 8}" y="{bottom}">{place}</text>'
        for place in range(len(rows[0]))
    )
    parts.append(f'<text x="10" y="{bottom}">{escape(column)}</text></svg>')
    return "\n".join(parts) + "\n"


def _colour(share: float) -> str:
    pale = round(255 * (1 - abs(share)))
    return f"rgb(255,{pale},{pale})" if share >= 0 else f"rgb({pale},{pale},255)"
