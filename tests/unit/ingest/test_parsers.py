"""Every file type becomes text with its headings, or a reason why not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory3.ingest.decode import decode
from memory3.ingest.files import SUFFIXES, FileOptions, parse_file
from memory3.ingest.records import BadRecord, Parsed, SkipError
from tests.unit.ingest.files import write, write_pdf

MARKDOWN = """\
---
title: "A guide"
tags: [x]
---
Setext
======

Some [linked](http://example.org) `code` and **bold**
words. ![a picture](x.png)

```bash
# no heading
echo hi
```

## Deeper <b>down</b>

- one
  - nested
- two

3. third
4. fourth

| a | b |
|---|---|
| 1 | 2 |

<div hidden>never</div>
<p>shown &amp; kept</p>

\\# no heading either
"""

RST = """\
=====
Title
=====

Sub
===

Words with :ref:`a name <target>` and *emphasis*.

.. code-block:: python

   # no heading
   x = 1

.. versionadded:: 1.2
   The new thing.

.. toctree::

   never

.. include:: /etc/passwd

Deep
----

* one
* two

+---+---+
| a | b |
+---+---+
"""

HTML = """\
<!doctype html><html><head><title>A page</title><style>never{}</style></head><body>
<nav>never</nav><h1>Head <i>one</i></h1>
<p>first<br>line<p>second <a href=x>link</a> &amp; more
<ul><li>a<ul><li>b</ul><li>c</ul>
<table><tr><th>x<th>y<tr><td>1<td>2</table>
<pre># no heading
  code</pre><script>never</script><div style="display: none">never</div><!-- never -->
<h2>Two</h2># no heading</body></html>
"""


def parsed(path: Path, **options: str) -> list[Parsed | BadRecord]:
    """Everything in a file."""
    return list(parse_file(FileOptions(path, **options)))


def only(path: Path) -> Parsed:
    """The one text of a file."""
    (item,) = parsed(path)
    assert isinstance(item, Parsed)
    return item


def headings(text: str) -> list[str]:
    """The lines that the retriever takes for headings."""
    return [line for line in text.split("\n") if line.startswith("#")]


def test_markdown_keeps_words_and_headings(tmp_path: Path) -> None:
    """Marks go, headings of both styles stay, code is none; the title is the front matter's."""
    item = only(write(tmp_path / "a.md", MARKDOWN))
    assert item.title == "A guide"
    assert headings(item.text) == ["# Setext", "## Deeper down"]
    assert "Some linked code and bold words. a picture" in item.text
    assert "    # no heading\n    echo hi" in item.text
    assert "- one\n  - nested\n- two\n" in item.text
    assert "3. third\n4. fourth\n" in item.text
    assert "a | b\n1 | 2\n" in item.text
    assert "shown & kept" in item.text
    assert "    # no heading either" in item.text
    assert "never" not in item.text
    assert "tags" not in item.text


def test_markdown_without_front_matter_is_titled_by_its_heading(tmp_path: Path) -> None:
    """The first heading is the title; a rule at the top is no front matter."""
    assert only(write(tmp_path / "a.md", "---\n\n# Top\n\ntext")).title == "Top"
    assert only(write(tmp_path / "two-words.md", "text")).title == "two words"


def test_rst_keeps_words_and_reads_nothing_else(tmp_path: Path) -> None:
    """Roles and Sphinx directives give their words; includes are not followed."""
    item = only(write(tmp_path / "a.rst", RST))
    assert item.title == "Title"
    assert headings(item.text)[:2] == ["# Title", "## Sub"]
    assert "Words with a name and emphasis." in item.text
    assert "    # no heading\n    x = 1" in item.text
    assert "The new thing." in item.text
    assert "- one\n- two" in item.text
    assert "a | b" in item.text
    for absent in ("never", "root:", "passwd", ":ref:"):
        assert absent not in item.text


def test_html_keeps_what_a_reader_sees(tmp_path: Path) -> None:
    """Menus, scripts, styles, comments and hidden parts go; unclosed tags do no harm."""
    item = only(write(tmp_path / "a.html", HTML))
    assert item.title == "A page"
    assert headings(item.text) == ["# Head one", "## Two"]
    assert "first\nline\n\nsecond link & more" in item.text
    assert "- a\n  - b\n- c" in item.text
    assert "x | y\n1 | 2" in item.text
    assert "    # no heading\n      code" in item.text
    assert "never" not in item.text


def test_html_in_its_declared_encoding(tmp_path: Path) -> None:
    """The charset that a page declares is used; a false one does no harm."""
    page = '<html><head><meta charset="windows-1251"></head><body>Привет, мир</body></html>'
    assert only(write(tmp_path / "a.html", page.encode("cp1251"))).text == "Привет, мир\n"
    wrong = '<html><head><meta charset="no-such"></head><body>Größe</body></html>'
    assert only(write(tmp_path / "b.html", wrong)).text == "Größe\n"


def test_deep_html_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    """Ten thousand nested tags are read."""
    page = "<div>" * 10_000 + "deep" + "</div>" * 10_000
    assert only(write(tmp_path / "a.html", page)).text == "deep\n"


def test_pdf_gives_pages_under_headings(tmp_path: Path) -> None:
    """A real PDF's pages come in order with its title."""
    path = write_pdf(
        tmp_path / "a.pdf", ["First page text.", "Second page text."], title="My paper"
    )
    item = only(path)
    assert item.title == "My paper"
    assert headings(item.text) == ["# Page 1", "# Page 2"]
    assert item.text.index("First page text.") < item.text.index("# Page 2")
    assert "Second page text." in item.text


def test_pdf_with_only_an_owner_password_is_read(tmp_path: Path) -> None:
    """A PDF that anyone may open is opened."""
    path = write_pdf(tmp_path / "a.pdf", ["Open to all."], owner="secret")
    assert "Open to all." in only(path).text


def test_pdf_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """Passwords, drawings, broken and empty files each have their reason."""
    locked = write_pdf(tmp_path / "locked.pdf", ["x"], owner="secret", password="needed")
    drawn = write_pdf(tmp_path / "drawn.pdf", [""])
    whole = write_pdf(tmp_path / "whole.pdf", ["x"]).read_bytes()
    cut = write(tmp_path / "cut.pdf", whole[: len(whole) // 3])
    empty = write(tmp_path / "empty.pdf", b"")
    expected = {locked: "ENCRYPTED", drawn: "EMPTY", cut: "MALFORMED", empty: "EMPTY"}
    actual = {}
    for path in expected:
        with pytest.raises(SkipError) as caught:
            parsed(path)
        actual[path] = caught.value.reason
    assert actual == expected


def test_json_records_of_every_shape(tmp_path: Path) -> None:
    """An array gives a text an item; fields become title, metadata or lines."""
    content = [
        {"title": "T", "text": "body", "year": 1999, "tags": ["a", "b"], "deep": {"x": None}},
        {"city": "Turin", "nested": {"ok": True, "list": [{"n": 1}]}},
        "bare",
        {"text": ""},
    ]
    items = parsed(write(tmp_path / "a.json", json.dumps(content)))
    assert items == [
        Parsed("body", "T", "item/1", {"year": "1999", "tags": "a, b"}),
        Parsed("city: Turin\nnested.ok: true\nnested.list.1.n: 1", "", "item/2"),
        Parsed("bare", "", "item/3"),
        BadRecord("item/4", "no text in it", "EMPTY"),
    ]


def test_single_json_object_is_the_whole_file(tmp_path: Path) -> None:
    """One object has no record number and is titled by the file."""
    assert only(write(tmp_path / "my-notes.json", '{"text": "body"}')) == Parsed("body", "my notes")


def test_bad_json_names_line_and_column(tmp_path: Path) -> None:
    """The whole file is skipped with the place of the fault."""
    with pytest.raises(SkipError) as caught:
        parsed(write(tmp_path / "a.json", '[\n1,\n"x\n]'))
    assert caught.value.reason == "MALFORMED"
    assert "line 3" in caught.value.message
    with pytest.raises(SkipError):
        parsed(write(tmp_path / "deep.json", "[" * 200_000))


def test_bad_json_line_is_skipped_alone(tmp_path: Path) -> None:
    """The other lines are read and keep their numbers."""
    text = '{"text": "one"}\n\n{bad\n{"text": "four"}\n'
    items = parsed(write(tmp_path / "a.jsonl", text))
    assert [item.record for item in items] == ["line/1", "line/3", "line/4"]
    assert isinstance(items[1], BadRecord)
    assert "line 3" in items[1].message


def test_csv_rows_become_records(tmp_path: Path) -> None:
    """Delimiters are told by the header; quoted line ends stay; a long row is skipped alone."""
    text = 'Name;"a,b,c,d,e";Text\nAda;1;"two\nlines"\n\nBob;2;x;surplus\nCy;3;short\n'
    items = parsed(write(tmp_path / "a.csv", text))
    assert items == [
        Parsed("two\nlines", "Ada", "row/1", {"a,b,c,d,e": "1"}),
        BadRecord("row/2", "row 2 has 4 fields, the header 3"),
        Parsed("short", "Cy", "row/3", {"a,b,c,d,e": "3"}),
    ]


def test_csv_without_text_field_gives_lines(tmp_path: Path) -> None:
    """All fields become lines; the fields that hold the text can be named."""
    path = write(tmp_path / "a.tsv", "city\tfounded\nTurin\t-28\n")
    assert parsed(path) == [Parsed("city: Turin\nfounded: -28", "", "row/1")]
    assert parsed(path, text_field="city") == [Parsed("Turin", "", "row/1", {"founded": "-28"})]
    assert parsed(path, text_field="no") == [BadRecord("row/1", "no field 'no'")]


def test_metadata_stays_below_the_retrievers_limits(tmp_path: Path) -> None:
    """A record with many long fields keeps what fits 64 pairs and 16 KiB."""
    fields = {f"field{number}": "v" * 900 for number in range(100)}
    (item,) = parsed(write(tmp_path / "a.jsonl", json.dumps({"text": "t", **fields})))
    assert isinstance(item, Parsed)
    assert 0 < len(item.metadata) <= 64
    size = sum(len(key) + len(value) for key, value in item.metadata.items())
    assert size <= 16 * 1024


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"\x89PNG", "UNKNOWN_SUFFIX"),
        ("Makefile", b"all:", "UNKNOWN_SUFFIX"),
        ("a.txt", b"", "EMPTY"),
        ("a.md", b" \n\t\n", "EMPTY"),
        ("a.html", b"<html><script>x</script></html>", "EMPTY"),
        ("a.csv", b"only,a,header\n", "EMPTY"),
        ("a.txt", b"\x7fELF\x00\x01\x02", "BINARY"),
        ("a.txt", bytes(range(1, 32)) * 50, "BINARY"),
        ("a.txt", b"\xff\xfe\x00\xd8\x00", "BINARY"),
    ],
)
def test_unusable_files_have_their_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    """What cannot be read is skipped with a reason of its kind."""
    with pytest.raises(SkipError) as caught:
        parsed(write(tmp_path / name, content))
    assert caught.value.reason == reason


def test_unreadable_files_have_their_reason(tmp_path: Path) -> None:
    """A dangling link and a missing file are told, not raised."""
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    for name in ("link.txt", "missing.txt"):
        with pytest.raises(SkipError) as caught:
            parsed(tmp_path / name)
        assert caught.value.reason == "UNREADABLE"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    """Byte order marks, UTF-8 and older encodings give the same text."""
    text = "Die Größe der Häuser überraschte die Gäste; später aßen sie Brötchen für drei Euro.\n"
    assert decode((text * 5).encode(encoding)).text == text * 5


RUSSIAN = "Анна родилась в Москве и работает врачом в городской больнице. Она любит музыку."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Café à la crème", "latin-1"),
        ("Zoë", "latin-1"),
        ("He said “hello” – it’s fine… costs 5 €", "cp1252"),
        ("El niño comió jamón; ¿cuándo vendrá?", "latin-1"),
        ("Åsa åkte till Malmö för att köpa ett äpple på torget", "latin-1"),
        ("Þetta er íslenska og það er gott að læra hana", "latin-1"),
        (
            RUSSIAN,
            "cp1251",
        ),
        (
            RUSSIAN,
            "koi8-r",
        ),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy. Dcera šla do školy.", "cp1250"),
        ("Η Άννα γεννήθηκε στην Αθήνα και εργάζεται ως γιατρός στο νοσοκομείο.", "cp1253"),
        ("東京で生まれたアンナは病院で働いています。音楽が好きです。", "shift_jis"),
        ("安娜出生在北京,她在医院工作,喜欢音乐和旅行。", "gb18030"),
    ],
)
def test_encodings_are_guessed_and_told(text: str, encoding: str) -> None:
    """Short western texts are not taken for eastern ones, nor the other way round."""
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert decoded.guessed
    assert decode(text.encode()).guessed == ""


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quote_that_stays_open_is_told(tmp_path: Path, end: str) -> None:
    """The row that takes in the rest of the file is bad; those before it are fine."""
    content = f'name,text\nAda,"sings, ""well"""\nBob,"sails\nCy,swims\nDi,draws{end}'
    fine, bad = parsed(write(tmp_path / "a.csv", content))
    assert isinstance(fine, Parsed)
    assert fine.text == 'sings, "well"'
    assert isinstance(bad, BadRecord)
    assert (bad.record, bad.reason) == ("row/2", "MALFORMED")
    assert "line 3" in bad.message
    assert "line 5" in bad.message
    with pytest.raises(SkipError) as caught:
        parsed(write(tmp_path / "b.csv", f'"name,text\nAda,sings{end}'))
    assert "line 1 is never closed" in caught.value.message


def test_line_ends_become_newlines() -> None:
    """Files of every system read alike."""
    assert decode(b"a\r\nb\rc\n").text == "a\nb\nc\n"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_any_text_survives_decoding(text: str) -> None:
    """Text without control characters comes back as it was."""
    assert decode(text.encode()).text == text.removeprefix("\ufeff")


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from([suffix for suffix in SUFFIXES if suffix != ".pdf"]),
    content=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
        st.text(alphabet="#*-_=|<>/'\"{}[]:,.`~ \n\tab1", max_size=300).map(str.encode),
    ),
)
def test_no_content_breaks_a_parser(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    """Whatever a file holds, it gives texts that UTF-8 carries, or a reason."""
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(SkipError):
        for item in parsed(path):
            if isinstance(item, Parsed):
                assert item.text.strip()
                assert item.text.encode().decode() == item.text


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_pdf_breaks_its_parser(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A PDF with some bytes changed gives text or a reason, never a crash."""
    folder = tmp_path_factory.mktemp("pdf")
    whole = bytearray(write_pdf(folder / "a.pdf", ["Some words to read."]).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = write(folder / "b.pdf", bytes(whole))
    with contextlib.suppress(SkipError):
        assert all(item.record == "" for item in parsed(broken))


def test_pdf_parser_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The small faults of a PDF are not logged, which is to say printed."""
    whole = write_pdf(tmp_path / "a.pdf", ["Some words."]).read_bytes()
    shifted = whole.replace(b"%PDF-1.3\n", b"%PDF-1.3\n%%%%%%%%%%%%%%%%\n")
    assert "Some words." in only(write(tmp_path / "b.pdf", shifted)).text
    assert caplog.messages == []
