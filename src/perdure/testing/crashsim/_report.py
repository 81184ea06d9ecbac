"""What an exploration found."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from perdure.testing.crashsim._changes import Tree
from perdure.testing.crashsim._trees import write_tree

_SHOWN_MAX = 5


@dataclass(repr=False)
class Failure:
    """A state that a power cut may leave and that the check rejects.

    ``problem``: what the check said. ``scenario``: how it came to the cut. ``after``: the last step before it.
    ``lost``: what did not arrive. ``tree``: the files.
    """

    model: str
    problem: str
    scenario: str
    after: str
    lost: list[str]
    fill: str
    acknowledged: int
    tried: int
    tree: Tree

    def write_to(self, directory: str | os.PathLike[str]) -> None:
        """Puts the files into a new directory, to look at or to make a test of."""
        write_tree(self.tree, os.fspath(directory))

    def __str__(self) -> str:
        lines = [
            f"[{self.model}] {self.problem}",
            f"  {self.acknowledged} acknowledged, {self.tried} tried; {self.scenario}power cut after: {self.after}",
        ]
        lines += [f"  lost: {step}" for step in self.lost[:8]]
        if len(self.lost) > 8:
            lines.append(f"  … and {len(self.lost) - 8} more")
        if self.fill != "zeros":
            lines.append(f"  what did not arrive reads as {self.fill}")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass
class ModelReport:
    """One model's numbers. ``points``: moments at which power was cut. ``states``: different directories checked.

    ``nested``: those of them that came from a second cut, during recovery. ``seconds``: for all of it.
    """

    name: str
    points: int = 0
    states: int = 0
    nested: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    complete: bool = True

    def __str__(self) -> str:
        nested = f", {self.nested} of them nested" if self.nested else ""
        unfinished = "" if self.complete else ", stopped early"
        return (
            f"{self.name}: {self.states} states at {self.points} points{nested} in {self.seconds:.1f} s{unfinished}, "
            f"{len(self.failures) or 'no'} failure{'s' if len(self.failures) != 1 else ''}"
        )


@dataclass(repr=False)
class Report:
    """All models' results. ``print`` it: it names each failure's moment and what was lost."""

    models: dict[str, ModelReport]
    event_count: int

    @property
    def failures(self) -> list[Failure]:
        return [failure for model in self.models.values() for failure in model.failures]

    @property
    def states(self) -> int:
        return sum(model.states for model in self.models.values())

    @property
    def points(self) -> int:
        return sum(model.points for model in self.models.values())

    @property
    def complete(self) -> bool:
        """Whether nothing was left out for lack of time or after too many failures."""
        return all(model.complete for model in self.models.values())

    def __str__(self) -> str:
        lines = [f"crashsim: {self.event_count} events", *(f"  {model}" for model in self.models.values())]
        lines += [str(failure) for failure in self.failures[:_SHOWN_MAX]]
        if len(self.failures) > _SHOWN_MAX:
            lines.append(f"… and {len(self.failures) - _SHOWN_MAX} more failures")
        return "\n".join(lines)

    __repr__ = __str__
