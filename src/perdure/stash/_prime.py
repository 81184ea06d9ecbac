"""Stashes that have something to do before they can be asked."""

from __future__ import annotations

from abc import abstractmethod

from perdure.stash._base import Stash


class PrimeableStash(Stash):
    """A stash that does its work when asked to, or before the first other call."""

    @abstractmethod
    def prime(self) -> None:
        """Do the work that is to be done before anything else; nothing where it is done."""
