"""Owns what the fork server imports before the first run starts, so that each run starts in a fraction of a second.

Nothing imported here may start a thread or touch a GPU: neither survives a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import signal

FLAG = "LADDER_FORK_SERVER"  # set by the pool for its fork server; importing this module elsewhere does nothing
LATE = ("torch._dynamo", "torch.utils.data", "PIL.Image")  # else imported by each run, in seconds


def warm_up() -> None:
    """Import all that a run needs. Every module of ours: a later run must not train with code edited meanwhile."""
    # A session of our own: a Ctrl-C or hang-up of the terminal is the launcher's business, which asks the runs to stop.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import ladder
    from ladder.networks.timm_hook import without_wandb

    ours = [module.name for module in pkgutil.walk_packages(ladder.__path__, "ladder.")]
    ours = [name for name in ours if not name.startswith("ladder.launch")]  # runs need none of those but one
    with without_wandb():  # the launcher asks for it by name where runs are tracked
        for name in (*LATE, *ours, "ladder.launch.child"):
            with contextlib.suppress(ImportError):  # of an extra that isn't installed
                importlib.import_module(name)
    from ladder.runs.session import git_state

    git_state()  # remembered: it tells of the code that is loaded now
    server = os.getpid()
    # Without the interpreter's own ending, in which extension modules report what they leak, to the user's terminal.
    atexit.register(lambda: os._exit(0) if os.getpid() == server else None)
    gc.collect()
    gc.freeze()  # runs share these objects' memory for as long as nobody writes to them


if os.environ.pop(FLAG, None):
    warm_up()
