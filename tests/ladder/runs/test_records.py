"""Owns the tests of reading the records of a study: whatever a file holds or is, it is read or told why not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ladder.runs import records
from ladder.runs import records
from ladder.runs.records import Record, Unreadable, checked, read_json, read_yaml
from ladder.common.text import plain_cell, printable, safe_cell

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.binary() | ANY.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_told(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "x.json"
    path.write_bytes(content)
    for read in (read_json, read_yaml):
        try:
            record = read(path)
        except Unreadable as reason:
            assert str(reason).startswith("x.json") and str(reason).isprintable()
        else:
            assert record is not None and json.dumps(record.values).isascii()


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda path: path.mkdir(), "x.json is no file"),
        (os.mkfifo, "x.json is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "x.json is no file"),
        (lambda path: path.symlink_to(path), "x.json can't be opened (Too many levels of symbolic links)"),
        (lambda path: path.write_text("[" * 100_000), "x.json is not JSON (nested too deeply)"),
        (lambda path: path.write_text('{"a":' * 100 + "1" + "}" * 100), "x.json is nested too deeply"),
        (lambda path: path.write_text(json.dumps({"a": [0] * 300_000})), "x.json holds too many values"),
        (lambda path: path.write_text('{"a": ' + "9" * 5000 + "}"), "x.json is not JSON ("),
        (lambda path: path.write_text('{"a": ' + "9" * 50 + "}"), "x.json holds a number that can't be (9999"),
        (lambda path: path.write_text("[1]"), "x.json holds no object"),
        (lambda path: path.write_bytes(b'{"a": "\xff"}'), "x.json is not UTF-8"),
    ],
)
def test_what_is_no_record_is_told(tmp_path: Path, made: Callable[[Path], object], why: str) -> None:
    path = tmp_path / "x.json"
    assert read_json(path) is None and read_json(path / "below") is None
    made(path)
    with pytest.raises(Unreadable) as told:
        read_json(path)
    assert str(told.value).startswith(why)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text("{}" + " " * 100)
    monkeypatch.setattr(records, "MOST_BYTES", 50)
    with pytest.raises(Unreadable, match=r"x.json is too large \(102 bytes\)"):
        read_json(tmp_path / "x.json")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "x.json") == Record("x.json", {"a": 1})


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 15))


@pytest.mark.parametrize(
    "content",
    [
        *(BOMB, MERGES, "a: &a [*a]", "a: !!python/object/apply:os.getcwd []", "a: 2020-01-01", "a: !!set {b}"),
        *("a: !!int ''", "a: !!timestamp 5", "? [1]\n: 2", "\ta: 1", "- 1", "a: " + "9" * 5000, "[" * 5000),
    ],
)
def test_yaml_that_no_run_writes_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(Unreadable, match=r"^x\.yaml"):
        read_yaml(tmp_path / "x.yaml")


def test_keys_and_text_are_printable(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text('1: "\\e[31mred"\n"\\u202e": [two, "a\\nb"]\n')
    assert read_yaml(tmp_path / "x.yaml") == Record("x.yaml", {"1": "\\x1b[31mred", "\\u202e": ["two", "a b"]})


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ("a", int, "is 'a', not a whole number"),
        (True, int, "is True, not a whole number"),
        (1.0, int, "is 1.0, not a whole number"),
        (1, str, "is 1, not text"),
        (1, bool, "is 1, not true or false"),
        ([1] * 9, float, "is a list, not a number"),
        (-1, float, "is -1, not a number from 0 to 100"),
        (1e300, float, "is 1e+300, not a number from 0 to 100"),
        ("x" * 99, int, "is 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..., not a whole number"),
    ],
)
def test_a_value_of_another_kind_is_told(value: object, kind: Any, told: str) -> None:
    with pytest.raises(ValueError, match="^is ") as error:
        checked(value, kind, 0, 100)
    assert str(error.value) == told


def test_a_value_of_its_kind_is_kept() -> None:
    record = Record("x.json", {"a": {"b": 1}, "nan": float("nan"), "text": "t", "inf": float("-inf"), "none": None})
    assert record.field("a.b", float) == 1.0 and type(record.field("a.b", float)) is float
    assert [record.field(name, float) for name in ("nan", "inf", "none", "missing", "text.b")] == [None] * 5
    with pytest.raises(Unreadable, match=r"x\.json: a is a mapping, not text"):
        record.field("a", str)
    with pytest.raises(Unreadable, match=r"x\.json is of format None; this version reads format 1"):
        record.check_format(1)


@given(st.text())
def test_text_is_made_printable_once_and_cells_safe_and_back(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown and "\x1b" not in shown and "\n" not in shown
    shown.encode()
    assert not safe_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain_cell(safe_cell(text)) == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
PIECES = ("a: 1", "b:", "  c: 2", "- 3", 'd: "x', "e: 'y'", "null: 4", "a: 5", "#", "f: {g: [1,", "2]}", "---", "", " h")
PIECES += ("a: |", "b: >-", "  text", "c: &x 1", "d: *x", "<<: *y", "y: &y {z: 1}", "%YAML 1.1", "e: !!str 5", "f: 'g\n", "a:b", "é: 1")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text("abcdefg_", min_size=1, max_size=4), VALUES, max_size=5))
def test_a_config_read_by_sections_is_the_config(tmp_path_factory: Any, values: dict[str, Any]) -> None:
    _reads_as_a_whole(tmp_path_factory, yaml.safe_dump(values, sort_keys=False))


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6))
@example(["a: |", "  text", "e: 'y'"])
def test_text_that_only_looks_like_sections_is_read_as_a_whole(tmp_path_factory: Any, lines: list[str]) -> None:
    _reads_as_a_whole(tmp_path_factory, "\n".join(lines))


def _reads_as_a_whole(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "sections.yaml"
    path.write_text(text, newline="")
    read: list[object] = []
    for by_section in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not by_section:
                patch.setattr(records, "_by_section", lambda text, loader: None)
            try:
                read.append(read_yaml(path))
            except Unreadable as error:
                read.append(str(error))
    assert read[0] == read[1], text
