"""Owns the tests of the report: what it says, that it asks nothing of the network, and how a browser lays it out."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.compare.summary import summarise
from analysis.report import _headline, build, main
from ladder.errors import UserError

Make = Callable[..., Any]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Attributes that load something, ids, and the text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "source", "link", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset") or (tag == "link" and name == "href"):
                self.loads.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                assert value not in self.ids, "a link would find the first of two"
                self.ids.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)


@pytest.fixture(scope="module")
def study(study_type: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    study = study_type(tmp_path_factory.mktemp("runs") / "demo").chain(rungs=["resnet", "stage_ratio", "patchify_stem"])
    study.run("depthwise_conv", 0, state="failed", error="loss is not finite <at step> 3 & more")
    study.run("depthwise_conv", 1, state="running", epochs_done=1)
    (study.root / "stray").mkdir()
    runs = [path.name for path in study.root.iterdir() if path.name != "stray"] + ["gelu-s0-00000000"]
    command = "ladder train -m experiment=demo 'recipe.lr=0.004'"
    launches = {command: {"launched": 1.0, "runs": runs}}
    (study.root / "study.json").write_text(json.dumps({"format": 1, "launches": launches}))
    return study


@pytest.fixture(scope="module")
def built(study: Any) -> tuple[str, list[str]]:
    return build(study.root)


def test_the_page_says_what_a_reader_needs(built: tuple[str, list[str]]) -> None:
    content, skipped = built
    page = Page(content)
    assert not page.open
    for words in (
        "Study demo",
        "9 of 12 runs done (1 failed, 1 running, 1 pending)",
        "90.10 ±0.10",
        "91.10 ±0.10",
        "% top-1 of patchify stem, 3 seeds",
        "loss is not finite <at step> 3 & more",
        "not run: increase_width",
        "stray: not a run folder",
        "git checkout " + "a" * 40,
        "ladder train -m ladder=convnext_32 rung=resnet,stage_ratio,patchify_stem seed=0,1,2",
        "conv: depthwise",
        "As launched: ladder train -m experiment=demo 'recipe.lr=0.004'",
        "1 launched and not started yet: gelu-s0-00000000",
        "PyTorch 2.15.0",
        "top-1 of the last epoch on the test split",
    ):
        assert words in page.text, words
    assert "What each step is worth on average" not in page.text, "of a walk its table says it"
    assert len(skipped) == 1 and skipped[0].endswith("not a run folder (no status.json, result.json or config.yaml)")
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert {
        "figure-roadmap",
        "changes",
        "figure-macs",
        "curves",
        "blocks",
        "figure-cost_by_kind",
        "reproduce",
    } <= page.ids


def test_everything_is_in_the_page(built: tuple[str, list[str]]) -> None:
    page = Page(built[0])
    pictures = [load for load in page.loads if load != "data:,"]
    assert len(pictures) == 2 * 9  # a wide and a narrow drawing of each chart
    for load in pictures:
        kind, _, data = load.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)
    assert "<script" not in built[0]


def test_compared_values_are_a_part_each(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study()
    for lr in (0.001, 0.004):
        study.chain(rungs=["resnet", "stage_ratio"], recipe={"lr": lr})
    study.run("gelu", 0, state="failed", recipe={"lr": 0.004}, error="a fault")
    with pytest.raises(UserError, match=r"differ in recipe.lr"):
        build(study.root)
    monkeypatch.setattr("analysis.show.page.picture", lambda chart: f"<p>{chart.stem}</p>")  # drawn in the other tests
    page = Page(build(study.root, compare=["recipe.lr"])[0])
    assert "recipe.lr=0.001" in page.text and "recipe.lr=0.004" in page.text
    assert "What differs between the runs, beside rung and seed" in page.text
    assert {"ladder-0", "ladder-1"} <= page.ids
    assert f"ladder report runs/{study.root.name} --compare recipe.lr" in page.text

    page = Page(build(study.root, where={"recipe.lr": "1e-3"})[0])
    assert "6 of 6 runs done." in page.text and "a fault" not in page.text, "the others are not on this page"
    assert f"ladder report runs/{study.root.name} --where recipe.lr=1e-3" in page.text


def test_sizes_are_drawn(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.show.page.picture", lambda chart: f"<p>{chart.stem}</p>")
    for changed, drawn in (({}, True), ({"kernel_size": 5}, False)):  # one size under three names is no line
        study = make_study(f"drawn-{drawn}")
        for rung in ("move_up_depthwise", "kernel_5", "kernel_9"):
            study.run(rung, 0, 90.0, spec=changed)
        assert ("sizes" in Page(build(study.root)[0]).ids) == drawn


def test_command_writes_the_page_and_prints_its_path(
    study: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.show.page.picture", lambda chart: f"<p>{chart.stem}</p>")  # drawn in the other tests
    out = tmp_path / "new" / "page.html"
    assert main([str(study.root), "--out", str(out), "--title", "A & B"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n" and told.err.startswith("skipped ")
    assert "<title>A &amp; B</title>" in out.read_text()
    with pytest.raises(UserError, match=r"must end in \.html"):
        main([str(study.root), "--out", "x.pdf"])
    with pytest.raises(UserError, match="is not a folder"):
        main([str(study.root), "--out", "/dev/null/x.html"])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_it_without_sideways_scroll_or_complaint(built: tuple[str, list[str]], tmp_path: Path) -> None:
    content, _ = built
    widths = (390, 1440)
    wrapper = tmp_path / "wrapper.html"
    script = (
        f"for (const w of {list(widths)}) {{ const f = document.createElement('iframe');"
        " f.style.cssText = `width:${w}px;height:800px;border:0`; f.onload = () => { const d = f.contentDocument;"
        " const r = document.createElement('pre'); r.id = 'r' + w; r.textContent = JSON.stringify({"
        " scroll: d.documentElement.scrollWidth, body: d.body.scrollWidth, inner: f.contentWindow.innerWidth,"
        " images: [...d.images].map(i => i.complete && i.naturalWidth > 0),"
        " shown: [...d.images].map(i => i.getBoundingClientRect().width) });"
        " document.body.append(r); }; f.srcdoc = page; document.body.append(f); }"
    )
    safe = json.dumps(content).replace("</", "<\\/")
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><body><script>const page = {safe};\n{script}</script>")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--window-size=1600,1000", "--dump-dom", wrapper.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    for width in widths:
        found = re.search(rf'<pre id="r{width}">(.*?)</pre>', done.stdout)
        assert found, done.stderr[-2000:]
        seen = json.loads(found[1])
        assert seen["inner"] == width
        assert seen["scroll"] <= width and seen["body"] <= width, seen
        assert len(seen["images"]) == 9 and all(seen["images"])
        assert all(0.6 * min(width, 900) < shown <= width for shown in seen["shown"])


def test_no_step_within_noise_is_called_the_largest(make_study: Make) -> None:
    study = make_study()
    for seed, noise in enumerate((-0.3, 0.0, 0.3)):
        for rung, top1 in (("resnet", 80.0), ("stage_ratio", 80.1), ("patchify_stem", 90.0)):
            study.run(rung, seed, top1 + noise * (-1 if rung == "stage_ratio" else 1))
    cards = _headline(summarise(analysis.load(study.root))[0])
    assert "the largest clear step up: patchify stem" in cards
    assert "stage ratio" not in cards and "step down" not in cards
