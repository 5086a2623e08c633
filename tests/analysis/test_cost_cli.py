"""`ladder cost`: the paper's table from shapes alone, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from analysis.cost import CostRow, cost_rows, main
from ladder.errors import UserError
from ladder.networks.rungs import Ladder, load_ladder

_KNOWN: dict[tuple[object, ...], list[CostRow]] = {}


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count each ladder once; the tests below are about what is shown."""

    def remembered(ladder: Ladder, image_size: int | None = None, num_classes: int = 1000) -> list[CostRow]:
        key = (ladder.name, image_size, num_classes)
        if key not in _KNOWN:
            _KNOWN[key] = cost_rows(ladder, image_size, num_classes)
        return _KNOWN[key]

    monkeypatch.setattr("analysis.cost.cost_rows", remembered)


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    _KNOWN["convnext_t", None, 1000] = cost_rows(load_ladder("convnext_t"))
    return [vars(row) for row in _KNOWN["convnext_t", None, 1000]]


def test_side_rungs_stand_under_the_rung_that_they_hang_off(rows: list[dict[str, object]]) -> None:
    names = [row["rung"] for row in rows]
    at = names.index("move_up_depthwise")
    assert names[at + 1 : at + 5] == ["kernel_5", "kernel_9", "kernel_11", "kernel_7"]
    assert [row["index"] for row in rows if row["index"] is not None] == list(range(13))


def test_every_row_is_the_papers_to_two_decimals_but_the_footnoted(rows: list[dict[str, object]]) -> None:
    for row in rows:
        assert isinstance(row["difference"], float)
        assert (abs(row["difference"]) <= 0.005) == (row["note"] is None), row["rung"]
        assert row["difference"] == pytest.approx(
            int(str(row["macs"])) / 1e9 - float(str(row["paper_gflops"])), abs=1e-6
        )


def test_json_and_csv_hold_the_same_full_numbers(
    capsys: pytest.CaptureFixture[str], rows: list[dict[str, object]]
) -> None:
    records = json.loads(printed(capsys, "convnext_t", "--format", "json"))
    assert records == rows
    lines = list(csv.DictReader(io.StringIO(printed(capsys, "convnext_t", "--format", "csv"))))
    assert lines == [{k: "" if v is None else str(v) for k, v in record.items()} for record in records]


def test_text_shows_both_figures_and_the_footnotes(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "convnext_t")
    (line,) = [x for x in text.splitlines() if "separate_downsampling" in x]
    assert line.split() == ["12", "separate_downsampling", "28.59", "4.456", "4.49", "-0.034", "[2]"]
    assert "[1] Table 10 prints 4.46" in text and "[2] Table 10 prints 4.49" in text
    columns = {x.find(".") for x in text.splitlines() if x[:2].strip().isdigit()}
    assert len(columns) == 1  # figures stand under one another
    assert all(x == x.rstrip() for x in text.splitlines())


def test_markdown_has_a_table_and_a_list_of_notes(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "convnext_t", "--format", "md")
    table = [x for x in text.splitlines() if x.startswith("|")]
    assert len(table) == 2 + 16
    assert len({x.count("|") for x in table}) == 1
    assert "| 11 layer_norm | 25.83 | 4.146 | 4.46 | -0.314 [1] |" in table
    assert [x[:5] for x in text.splitlines() if x.startswith("- ")] == ["- [1]", "- [2]"]


def test_several_ladders_are_several_tables_or_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "convnext_32", "convnext_t")
    assert "(convnext_32), 32 px" in text and "(convnext_t, arXiv" in text
    records = json.loads(printed(capsys, "convnext_32", "convnext_t", "--format", "json"))
    assert {r["ladder"] for r in records} == {"convnext_32", "convnext_t"}


def test_a_ladder_without_a_paper_has_no_columns_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "convnext_32", "--num-classes", "10")
    assert "paper" not in text and "MACs M" in text and "10 classes" in text


def test_the_papers_figures_go_with_the_papers_image_size_only(capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads(printed(capsys, "convnext_t", "--format", "json", "--image-size", "448"))
    assert {r["paper_gflops"] for r in records} == {None}
    assert records[0]["macs"] == pytest.approx(4 * 4.089e9, rel=0.001)  # twice the side, four times the pixels


def test_a_ladder_file_of_ones_own_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    spec = {"depths": [1], "widths": [4]}
    path.write_text(yaml.safe_dump({"network": "roadmap", "image_size": 8, "base": {"name": "only", "spec": spec}}))
    (record,) = json.loads(printed(capsys, str(path), "--format", "json", "--num-classes", "3"))
    assert (record["ladder"], record["rung"]) == ("mine", "only")
    # 7 x 7 stem on 4 x 4 pixels; a 1 x 1, a 3 x 3, a 1 x 1 and a projection on 2 x 2 of them; the classifier
    assert record["macs"] == 16 * 4 * 3 * 49 + 4 * (4 * 4 + 9 * 4 * 4 + 4 * 16 + 4 * 16) + 16 * 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["convnxt_t"], "did you mean convnext_t"),
        (["convnext_t", "--image-size", "16"], "images of 16 px are too small"),
        (["convnext_t", "--image-size", "0"], "at least 1"),
        (["convnext_t", "--num-classes", "-1"], "num_classes=-1"),
        (["gone.yaml"], "gone.yaml: No such file"),
    ],
)
def test_a_mistake_is_one_line(argv: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        main(argv)
    assert "\n" not in str(told.value)
