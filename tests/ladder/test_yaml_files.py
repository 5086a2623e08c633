"""YAML that a person wrote, or a joker: bounded, and told in one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ladder.common.yaml_files import LARGEST, read_yaml
from ladder.errors import UserError
from ladder.paths import conf_dir

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "own.yaml, line 3, column 2: not YAML: while parsing a flow sequence, expected ','"),
        ("a: 1\n\tb: 2\n", "line 2, column 1: not YAML"),
        ("a: \x07", "not YAML"),
        ("a: !!python/object/apply:os.system [true]", "line 1, column 4: not YAML: could not determine a constructor"),
        (BOMB, "aliases stand for more than 100,000 values"),
        ("a: &a [*a]", "refers to what it is a part of"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels deep"),
        ("a: " + "[" * 100_000, "nested more than 50 levels deep"),
        ("a: 1\nb: [" + "9" * 5_000 + "]", "line 2: a number of 5,000 digits"),
        ("a: 0x" + "f" * 6_000, "line 1: a number of 6,002 digits"),
        ("a: 2024-99-99", "holds a value that can't be: month must be in 1..12"),
        ("a: " + "x" * LARGEST, "larger than 256 KiB"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=r"own\.yaml") as error:
        read_yaml(tmp_path / "own.yaml")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(UserError, match="line 2: not YAML: byte 0xff is no UTF-8"):
        read_yaml(tmp_path / "own.yaml")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, says in (("folder", "not a file"), ("zero", "not a file"), ("loop", "symbolic"), ("none", "No such")):
        with pytest.raises(UserError, match=says):
            read_yaml(tmp_path / f"{name}.yaml")


def test_aliases_and_our_own_files(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: &a {b: 1}\nc: {<<: *a, d: *a}\n")
    assert read_yaml(tmp_path / "own.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}}
    for path in conf_dir().rglob("*.yaml"):
        assert isinstance(read_yaml(path), dict)
        assert path.stat().st_size < LARGEST / 10
