"""One small parser for each file type; each has ``parse(data, options)`` and imports what it needs.

A parser yields ``Parsed`` texts with headings as ``#`` lines, or ``BadRecord`` for a record that
cannot be used, and raises ``SkipError`` where the whole file cannot.
"""
