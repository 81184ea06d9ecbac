"""What perdure is tested with, for your own tests: a disk that fails on command, and power cuts at every moment."""

from perdure.testing._faulty_fs import Call, FaultyFs, Mode, failing_everywhere
from perdure.testing._wrapping_fs import PRIMITIVES, WrappingFs

__all__ = ["PRIMITIVES", "Call", "FaultyFs", "Mode", "WrappingFs", "failing_everywhere"]
