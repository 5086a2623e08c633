"""Owns what charts remember of networks from one command to the next: reading it off them takes torch, whose import
takes seconds and most of the memory of a report.

One small JSON file for each network, in the user's cache. What made it is in its name: the spec, the code that builds
networks and the versions of timm and torch; so that no file is ever out of date.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from ladder.networks.spec import FactorySpec, Spec
from ladder.paths import make_folders, user_cache, write_atomic
from ladder.runs.records import Unreadable, read_json

Found = TypeVar("Found")


def remembered(
    name: str, spec: Spec, sizes: tuple[int, ...], make: Callable[[], Found], restore: Callable[[Any], Found]
) -> Found:
    """What `make` gives for the network of `spec` and these sizes (pixels, channels, classes), made once on a machine.

    It must be a dataclass or tuple of plain values, which `restore` makes again of the mapping or list that JSON has.
    Networks that timm or a user's function make are not remembered: their code isn't ours. Raises what `make` does.
    """
    if isinstance(spec, FactorySpec):
        return make()
    what = [name, spec.network, spec.to_dict(), sizes, _code()]
    file = user_cache("networks") / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]}.json"
    with suppress(Unreadable, KeyError, TypeError, ValueError):
        if (record := read_json(file)) is not None:
            return restore(record.values[name])
    found = make()
    with suppress(OSError):  # a full disk, a home that is read-only
        make_folders(file.parent)
        write_atomic(file, json.dumps({name: found}, default=asdict), durable=False, follow=False)
    return found


@cache
def _code() -> list[str]:
    """What makes networks, and what reads them: the contents of their files, and the libraries below."""
    files = [*Path(inspect.getfile(Spec)).parent.glob("*.py"), Path(__file__).with_name("anatomy.py")]
    content = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()
    return [content, version("torch"), version("timm")]
