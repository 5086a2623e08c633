"""Owns the odd files: YAML with something changed or meant to do harm, ladders, image folders, weights."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Callable
from typing import Any

import yaml
from odd_values import typo
from PIL import Image

from ladder.networks.spec import SPECS
from ladder.paths import conf_dir

Files = dict[str, bytes]  # by path; one that ends in / is a folder
Links = list[tuple[str, str]]  # path, target

_NODES: list[Any] = [
    *(None, True, 0, 1, -1, -3, 1.5, 1e300, float("nan"), float("inf"), 10**9, 10**30),
    *("", "x", "é", "a b", "???", "$x", "${nothing}", "\x1b[31m", "a" * 500),
    *([], {}, [0], [1], [[1]], [1, 1, 1, 1], [1, "a"], ["a", None], {"a": 1}, {1: 2}, {None: None}),
]


def odd_yaml(rng: random.Random, text: str) -> bytes:
    """A YAML file with one or two things changed, in its text or in what it holds; or another one altogether."""
    if rng.random() < 0.12:
        return rng.choice(_OTHERS)(rng)
    if rng.random() < 0.45:
        for _ in range(rng.choice((1, 1, 2))):
            text = _odd_text(rng, text)
        return text.encode(errors="surrogatepass")
    head = text.splitlines()[0] + "\n" if text.startswith("# @package") else ""
    values = yaml.safe_load(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        values = _odd_node(rng, values)
    return (head + yaml.safe_dump(values, allow_unicode=True, sort_keys=False)).encode()


def _odd_text(rng: random.Random, text: str) -> str:
    lines = text.splitlines()
    i = rng.randrange(len(lines))
    line = lines[i]
    key = line.partition(":")[0]
    j = rng.randrange(len(line) + 1)
    sign = rng.choice("{}[]:,&*!|>'\"%@`#-\x00\x07\u2028é?")
    lines[i : i + 1] = rng.choice(
        (
            *([], [line, line], [f" {line}"], [line[1:]], [f"\t{line}"], [line.upper()], [f"- {line}"], [line, "? x"]),
            *([line.replace(":", "", 1)], [line.replace(":", ": :", 1)], [line.replace(" ", "  ", 1)], ["<<: *x"]),
            *([line[:j] + sign + line[j:]], [line[:j]], [f"{key}: {{"], ["---", line], [line, "..."], [f"{key}: !x y"]),
            [f"{key}: !!python/object/apply:os.system [true]"],
        )
    )
    return "\n".join(lines) + "\n"


def _odd_node(rng: random.Random, node: Any) -> Any:
    """The values with one node replaced, dropped, renamed or doubled; deep ones as often as shallow ones."""
    if not isinstance(node, dict | list) or not node or rng.random() < 0.08:
        return rng.choice(_NODES)
    if isinstance(node, list):
        i = rng.randrange(len(node))
        if rng.random() < 0.15:
            return rng.choice(([*node[:i], *node[i + 1 :]], [*node, node[i]], node[::-1]))
        return [*node[:i], _odd_node(rng, node[i]), *node[i + 1 :]]
    key = rng.choice(list(node))
    kind = rng.random()
    if kind < 0.1:
        return {k: v for k, v in node.items() if k != key}
    if kind < 0.2:
        return {(typo(rng, str(k)) if k == key else k): v for k, v in node.items()}
    if kind < 0.25:
        return {**node, rng.choice(("x", "", 1, None, True)): rng.choice(_NODES)}
    return {k: (_odd_node(rng, v) if k == key else v) for k, v in node.items()}


def _bomb(rng: random.Random) -> bytes:
    """A few hundred bytes that stand for 9 ** 6 values and more."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, rng.choice((6, 9, 30)))]
    return "\n".join([*lines, f"name: *a{len(lines) - 1}", "network: roadmap", "base: {name: b, spec: {}}"]).encode()


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice((50, 500, 5_000, 50_000))
    return rng.choice(
        (
            b"steps: " + b"[" * depth + b"]" * depth,
            b"base: " + b"{a: " * depth + b"1" + b"}" * depth,
            "\n".join(" " * i + "a:" for i in range(min(depth, 600))).encode(),
            b"name: " + b"- " * depth,
            b"name: " + b"!!str " * depth,
        )
    )


def _digits(rng: random.Random) -> bytes:
    numbers = ["9" * 5_000, "1" * 100_000, "-" + "9" * 4_301, "0x" + "f" * 6_000, "0b" + "1" * 20_000]
    number = rng.choice((*numbers, "1" + ":59" * 3_000, "1e99999", "1_0" * 3_000))
    widths = "base: {{name: b, spec: {{widths: [{}]}}}}"
    where = rng.choice(("image_size: {}", "name: {}", "steps: [{{name: {}}}]", "references: {}", widths))
    return ("name: x\nnetwork: roadmap\nbase: {name: b, spec: {}}\n" + where.format(number)).encode()


def _always(content: bytes) -> Callable[[random.Random], bytes]:
    return lambda rng: content


_OTHERS: list[Callable[[random.Random], bytes]] = [
    *(_bomb, _bomb, _deep, _deep, _digits, _digits, lambda rng: rng.randbytes(500)),
    *map(
        _always, (b"", b"\n\n# nothing\n", b"- 1\n- 2\n", b"just words", b"{" * 10, b"\x00" * 100, b"1: 2\nnull: 3\n")
    ),
    *map(_always, (b"\xff\xfen\x00", b"name: \xff\xfa", b"\xef\xbb\xbfname: x\n", b"%YAML 9.9\n---\na: 1")),
    *map(_always, (b"a: &a [*a]", b"a: &a {b: *a}\nname: *a", b"<<: 1\nname: x", b"<<: [*a]", b"? [a, b]\n: c\n")),
    *map(_always, (b"x: 1\n" * 400_000, b"name: '" + b"x" * 3_000_000 + b"'", b"name: 2024-99-99", b"=: 1\nname: =")),
    *map(_always, (b"name: !!binary '!'", b"name: !!set {a, b}", b"name: !!timestamp x", b"name: !!int x")),
]

_HUGE = (10**6, 10**9, 2**31, 2**63, 10**30, 0, -1, 1.5, float("inf"), True, None, "8", [8], 65_536, 65_537)


def odd_ladder_file(rng: random.Random) -> bytes:
    """A ladder file with something odd in it, as often as not a network that can't be."""
    path = rng.choice(sorted((conf_dir() / "ladder").glob("*.yaml")))
    if rng.random() < 0.6:
        return odd_yaml(rng, path.read_text())
    values = yaml.safe_load(path.read_text())
    changes = [s["change"] for s in values.get("steps") or [] if s.get("change")]
    place = rng.choice([values["base"].setdefault("spec", {}), *changes])
    field = rng.choice(dataclasses.fields(SPECS[values.get("network", "roadmap")]))
    odd = rng.choice(_HUGE)
    place[field.name] = [odd] * rng.choice((1, 4, 4, 40, 5000)) if isinstance(field.default, tuple) else odd
    return yaml.safe_dump(values, sort_keys=False).encode()


def odd_images(rng: random.Random) -> tuple[Files, Links]:
    """An image folder `set` with something odd in it."""
    files = {
        f"set/{split}/{c}/{i}.png": _image(rng, "RGB") for split in ("train", "test") for c in "ab" for i in range(4)
    }
    links: Links = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        spot = rng.choice(sorted(files))
        folder = spot.rpartition("/")[0]
        kind = rng.randrange(12)
        if kind == 0:
            files[spot] = rng.choice((b"", b"no image", files[spot][:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 50))
        elif kind == 1:
            files[spot] = _image(
                rng, rng.choice(("L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"))
            )
        elif kind == 2:
            files = {name: content for name, content in files.items() if not name.startswith(folder)}
            files[f"{folder}/"] = b""
        elif kind == 3:
            links.append((f"{folder}/loop{len(links)}", rng.choice(("..", ".", "nowhere", "/dev/zero", "../../.."))))
        elif kind == 4:
            links.append((f"{folder}/9{len(links)}.png", rng.choice(("nowhere.png", "/dev/zero", "..", "90.png"))))
        elif kind == 5:
            files[f"{folder}/{rng.choice(('é', chr(10), 'a b', '$x$', '%', '-', 'x' * 200))}.png"] = _image(rng, "RGB")
        elif kind == 6:
            files[f"set/train/{rng.choice(('c', '.d', 'é', '$', '-m', 'a' * 200))}/0.png"] = _image(rng, "RGB")
        elif kind == 7:
            files[f"set/{rng.choice(('val', 'validation', 'x'))}/a/0.png"] = _image(rng, "RGB")
        elif kind == 8:
            files = {name: content for name, content in files.items() if not name.startswith("set/test")}
        elif kind == 9:
            files[spot] = _image(rng, "RGB", rng.choice(((1, 1), (1, 3000), (3000, 1), (40, 30))))
        elif kind == 10:
            files = {name: content for name, content in files.items() if "/b/" not in name}
        else:
            files[f"{folder}/x.png/"] = b""
        files = files or {"set/": b""}
    return files, links


def _image(rng: random.Random, mode: str, size: tuple[int, int] = (12, 12)) -> bytes:
    """An image file, whatever its name says: PNG where that has the mode, else TIFF."""
    gray = Image.new("L", size, rng.randrange(256))
    if mode == "I;16":
        image = Image.frombytes(mode, size, rng.randbytes(2 * size[0] * size[1]))
    else:
        image = Image.new(mode, size) if mode == "LAB" else gray.convert(mode)
    content = io.BytesIO()
    image.save(content, format="PNG" if mode in ("L", "1", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF")
    return content.getvalue()
