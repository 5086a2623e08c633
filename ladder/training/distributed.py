"""Owns what a process knows of its fellows: rank, world, device, and the few sums they share."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ladder.errors import UserError


@dataclass
class Ranks:
    """This process among those of its run. One process alone: rank 0 of 1, and every call is free."""

    device: torch.device
    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None  # on the CPU: agreeing to stop must not make the host wait for the GPU

    @property
    def is_main(self) -> bool:
        """True for the one process that writes."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The elementwise sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank rank 0's values, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Every rank's `values`, stacked along a new first dimension."""
        if self.world == 1:
            return values[None]
        parts = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(parts, values)
        return torch.stack(parts)

    def max(self, value: int) -> int:
        """The largest value of any rank, known to all: how they agree to save or to stop."""
        if self.world == 1:
            return value
        shared = torch.tensor([value])
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.control)
        return int(shared.item())

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of `device=`: auto takes a GPU where there is one. Raises UserError for one that is not there."""
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    index = int(number) if number.isdigit() else local_rank
    if kind != "cuda" or (number and not number.isdigit()) or index >= count:
        have = ", ".join(["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))])
        raise UserError(f"device={name}: not on this machine; allowed: {have}")
    return torch.device("cuda", index)


def device_name(device: torch.device) -> str:
    """What a reader knows the device by: "NVIDIA H100 80GB HBM3", "Intel Xeon Processor, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor()  # empty or only "x86_64" on Linux
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.partition(":")[2] for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    words = " ".join(re.sub(r"\((R|TM)\)|@.*", " ", name, flags=re.IGNORECASE).split())
    threads = torch.get_num_threads()
    return f"{words or platform.machine() or 'CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def srun_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would have set, for a process that `srun` started as one of several; {} for any other.

    The first host of the step is where rank 0 is. Each job has its port, since two may share a host.
    """
    world = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if world == "1" or "SLURM_PROCID" not in environment or "WORLD_SIZE" in environment:
        return {}
    hosts = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "127.0.0.1"))
    if "[" in hosts or "," in hosts:  # gpu[01-04,7]
        shown = subprocess.run(["scontrol", "show", "hostnames", hosts], capture_output=True, text=True, check=True)
        hosts = shown.stdout
    local = environment.get("SLURM_LOCALID", "0")
    if len(environment.get("CUDA_VISIBLE_DEVICES", ",").split(",")) == 1:  # Slurm shows each process its own GPU only
        local = "0"
    # a port of the job's own, below those that Linux gives to any connection
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": world,
        "LOCAL_RANK": local,
        "MASTER_ADDR": environment.get("MASTER_ADDR", hosts.split()[0]),
        "MASTER_PORT": environment.get("MASTER_PORT", str(12000 + int(environment.get("SLURM_JOB_ID", 0)) % 20000)),
    }


def join(device: str) -> Ranks:
    """Join the group that `torchrun` or `srun` described; alone without one."""
    os.environ.update(srun_ranks(os.environ))
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    picked = pick_device(device, local_rank)
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    if world == 1:
        return Ranks(picked)
    dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    return Ranks(picked, rank, world, dist.new_group(backend="gloo"))  # type: ignore[arg-type]
