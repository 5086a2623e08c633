"""Owns the contexts that effects are averaged over: which steps exclude or require each other, how many have each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ladder.networks.rungs import Ladder, Step

Pair = tuple[str, str]
Network = frozenset[str]


@dataclass(frozen=True)
class Contexts:
    """Half of the networks have each step; of steps that exclude or require each other, as many as the study has.

    Those are `bound`: they do not come in all four combinations, so that they do not interact.
    """

    ladder: Ladder
    steps: Sequence[str]  # that vary
    networks: frozenset[Network]  # the study's

    @cached_property
    def alternatives(self) -> frozenset[Pair]:
        """Pairs of steps of which one sets all that the other does, as two kernel sizes, and no network has both.

        Main steps of a chain are none: there, a later step may set anew what an earlier one has set.
        """
        every = {step.name: step for step in (*self.ladder.steps, *self.ladder.side)}
        main = {step.name for step in self.ladder.steps} if self.ladder.kind == "chain" else set()
        return frozenset(
            pair
            for pair in combinations(self.steps, 2)
            if not main.issuperset(pair)
            and _alike(*(every[name] for name in pair))
            and not any(network.issuperset(pair) for network in self.networks)
        )

    @cached_property
    def needs(self) -> dict[str, frozenset[str]]:
        """The steps without which no network has a step that requires them."""
        wanted = {step.name: set(step.requires) for step in (*self.ladder.steps, *self.ladder.side)}
        for _ in wanted:  # what is required requires others
            wanted = {name: names.union(*(wanted[other] for other in names)) for name, names in wanted.items()}
        return {
            name: frozenset(
                other
                for other in wanted[name] & set(self.steps)
                if all(other in network for network in self.networks if name in network)
            )
            for name in self.steps
        }

    @cached_property
    def bound(self) -> frozenset[Pair]:
        """All pairs that do not interact."""
        nested = ((a, b) for a, b in combinations(self.steps, 2) if a in self.needs[b] or b in self.needs[a])
        return self.alternatives.union(nested)

    @cached_property
    def _bound(self) -> frozenset[str]:
        return frozenset(name for pair in self.bound for name in pair)

    def share(self, name: str, of: str, given: tuple[str, bool] | None = None) -> float:
        """How many have a step or factor among the networks in which another one can be taken or left.

        `given`: among those of them that have a third one, or lack it.
        """
        if name not in self._bound:
            return 0.5
        apart = {other for pair in self.alternatives if of in pair for other in pair} - {of}
        apart |= {other for other, needed in self.needs.items() if of in needed}
        needed = self.needs.get(of, frozenset())
        open_to_it = [n for n in self.networks if needed <= n and not apart & n]
        among = [n for n in open_to_it if given is None or (given[0] in n) is given[1]]
        chosen = among or open_to_it or list(self.networks)
        return sum(name in network for network in chosen) / len(chosen)


def _alike(a: Step, b: Step) -> bool:
    """Whether one step sets all that the other does."""
    return bool(a.sets and b.sets) and (_covers(a, b) or _covers(b, a))


def _covers(a: Step, b: Step) -> bool:
    """Whether a step sets each key of another one, a part of it, or what it is a part of."""
    return all(any(f"{k}.".startswith(f"{o}.") or f"{o}.".startswith(f"{k}.") for k in a.sets) for o in b.sets)
