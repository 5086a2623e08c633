"""Owns the measurement of what it takes to know a network's cost: counted from its spec, and built and measured.

    python benchmarks/counting.py [LADDER] [--rounds 5]

Both sides in turns over every rung, the least CPU time of all rounds; and the import that each side needs, in a
process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

BUILT = "torch, ladder.networks.build, ladder.networks.cost"
COUNTED = "ladder.networks.outline"


def importing(names: str) -> float:
    """CPU seconds of a process that imports these modules."""
    code = f"import time, {names}; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def seconds(of: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    of()
    return time.process_time() - start


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", nargs="?", default="convnext_mini")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    imports = [[importing(names) for names in (BUILT, COUNTED)] for _ in range(given.rounds)]

    import torch

    from ladder.networks.build import build_net
    from ladder.networks.cost import measure_cost
    from ladder.networks.outline import spec_cost
    from ladder.networks.rungs import load_ladder

    ladder = load_ladder(given.ladder)
    specs = [rung.spec.for_images(ladder.image_size) for rung in ladder.rungs]

    def built() -> list[object]:
        with torch.device("meta"):
            return [measure_cost(build_net(spec), ladder.image_size) for spec in specs]

    def counted() -> list[object]:
        return [spec_cost(spec, ladder.image_size) for spec in specs]

    assert built() == counted()
    rounds = [[seconds(built), seconds(counted)] for _ in range(given.rounds)]
    for what, found, count in (("a network", rounds, len(specs)), ("the import", imports, 1)):
        slow, fast = (min(one[side] for one in found) / count for side in (0, 1))
        print(f"{what:11} built {slow * 1e3:9.2f} ms, counted {fast * 1e3:8.3f} ms, ratio {slow / fast:6.0f}")


if __name__ == "__main__":
    main()
