"""Owns the bar that shows while images are decoded."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, cast

from ladder.common.streams import Steady

_PATIENCE = 1.0  # seconds before a bar appears


def counted(parts: Iterable[int], total: int, label: str) -> Iterator[int]:
    """`parts`, sizes of finished parts of `total`, behind a bar on stderr if it is a terminal and this takes long."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=cast(TextIO, Steady(sys.stderr)))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, visible=False)
        for part in parts:
            bar.update(task, advance=part, visible=time.monotonic() - started > _PATIENCE)
            yield part
