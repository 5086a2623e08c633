"""How a command ends in trouble: a mistake in one line, a bug in two and a file; never a traceback unasked."""

from __future__ import annotations

import argparse
import errno
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from ladder.errors import UserError, one_line, run_cli, unknown

End = Callable[[Callable[[], int | None]], tuple[int, str]]


@pytest.fixture
def end(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> End:
    """Runs a command's main as its last act: exit code, stderr."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ladder.train", "data.root=a b"])

    def run(main: Callable[[], int | None]) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run_cli(main)
        assert isinstance(ended.value.code, int)
        return ended.value.code, capfd.readouterr().err

    return run


def raises(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UserError("no\n  such thing"), "error: no such thing\n"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "a/b"), "error: a/b: Too many levels of sym"),
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device\n"),
        (MemoryError(), "error: out of memory\n"),
        (
            RuntimeError("x] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes."),
            "4.0 GB",
        ),
        (
            ModuleNotFoundError("No module named 'ray'", name="ray.util"),
            "error: the Python package ray is not installed",
        ),
    ],
)
def test_what_the_user_or_the_machine_can_mend(end: End, error: Exception, says: str) -> None:
    code, err = end(raises(error))
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


def test_a_bug_is_named_one_and_its_traceback_is_kept(end: End, tmp_path: Path) -> None:
    code, err = end(raises(KeyError("widths")))
    assert code == 1
    assert "Traceback" not in err
    assert err.count("\n") == 2
    assert "a bug in the Modernization Ladder" in err and "KeyError at tests/ladder/test_errors.py:" in err
    (report,) = tmp_path.glob("ladder-bug-*.txt")
    assert str(report) in err
    assert "Traceback" in report.read_text() and "'data.root=a b'" in report.read_text()


def test_a_bug_where_no_file_can_be_written(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    code, err = end(raises(KeyError("widths")))
    monkeypatch.undo()
    assert (code, err.count("\n")) == (1, 2)
    assert "HYDRA_FULL_ERROR=1" in err


@pytest.mark.parametrize("error", [KeyError("widths"), UserError("a mistake")])
def test_a_traceback_for_who_asks(end: End, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback (most recent call last)" in end(raises(error))[1]


def test_what_is_no_argument(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--images", type=int)
        parser.parse_args()

    monkeypatch.setattr(sys, "argv", ["preview", "--images", "many"])
    assert end(main) == (2, "error: argument --images: invalid int value: 'many'; see --help\n")


def test_a_warning_is_one_line(end: End) -> None:
    def main() -> int:  # as `warnings.warn` prints it where pytest does not gather warnings
        sys.stderr.write(warnings.formatwarning("two\nlines", UserWarning, "file.py", 1))
        return 0

    assert end(main) == (0, "warning: two lines\n")


def test_lines_hold_what_a_terminal_can_show() -> None:
    assert one_line("red \x1b[31m \u202e é") == r"red \x1b[31m \u202e é"
    assert len(one_line("a" * 5000)) < 700
    assert len(str(unknown("rung", "x" * 5000, ["gelu"]))) < 200
