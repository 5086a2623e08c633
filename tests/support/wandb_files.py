"""Reads W&B's offline files as `wandb sync` does: LevelDB's log format around W&B's own protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # bytes; a record that does not fit is cut into chunks at its end
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[bytes]:
    """The records of one `.wandb` file."""
    content = path.read_bytes()
    ident, _, _ = struct.unpack("<4sHB", content[:7])
    assert ident == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(content):
        if BLOCK - position % BLOCK < 7:  # too little left for a header: padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""


def read_back(folder: Path) -> list[dict[str, Any]]:
    """The W&B runs below a run folder: name, group, tags, config, history, summary, exit code.

    `summary` has one level of keys, `values` the same nested as W&B's API gives it; `files` and `artifacts` are names.
    """
    from wandb.proto import wandb_internal_pb2 as pb

    found = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        one: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "exit": None}
        one |= {"values": {}, "files": set(), "artifacts": set()}
        for data in records(path):
            record = pb.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {"name": record.run.display_name, "group": record.run.run_group, "id": record.run.run_id}
                one |= {"tags": set(record.run.tags), "job_type": record.run.job_type}
                one["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                items = record.history.item
                one["history"].append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
            elif kind == "summary":
                items = record.summary.update
                one["summary"] |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                for item in items:
                    *parents, last = list(item.nested_key) or [item.key]
                    inner = one["values"]
                    for parent in parents:
                        inner = inner.setdefault(parent, {})
                    inner[last] = json.loads(item.value_json)
            elif kind == "files":
                one["files"] |= {item.path for item in record.files.files}
            elif kind == "artifact":
                one["artifacts"].add((record.artifact.type, record.artifact.name))
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        found.append(one)
    return found
