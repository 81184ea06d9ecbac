"""What every store of snapshots must do. Subclass it with a ``store`` fixture and pytest runs it on yours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from perdure.errors import CodecError
from perdure.snapshots import Snapshot, SnapshotHeader, SnapshotStore, Source, Writer

_LOG_ID = b"a log id, 16 b.."
_CONTENTS = [b"", b"small", b"x" * 1_000_000, bytes(range(256)) * 2048]


class _RefusedError(Exception):
    pass


def header(seq: int) -> SnapshotHeader:
    return SnapshotHeader(seq, 1_000 + seq, _LOG_ID, {"kind": "test", "methods": {"a": "0" * 16}})


def digest_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def read_all(file: Source) -> bytes:
    parts = []
    while part := file.read(100_000):
        parts.append(part)
    return b"".join(parts)


def write(store: SnapshotStore, seq: int, content: bytes) -> str:
    def dump(file: Writer) -> None:
        half = len(content) // 2
        file.write(content[:half])
        file.write(content[half:])

    return store.write(header(seq), dump, lambda: digest_of(content), lambda file: digest_of(read_all(file)))


def put(store: SnapshotStore, seq: int, content: bytes) -> Snapshot:
    return store.publish(write(store, seq, content), header(seq))


class SnapshotContract:
    """The rules of ``perdure.snapshots.SnapshotStore``, each a test. ::

    class TestMyStore(SnapshotContract):
        @pytest.fixture
        def store(self):
            return MyStore()

    ``store`` is empty. Where it outlives the process, the fixture ``reopen`` gives a function that opens it again.
    """

    @pytest.fixture
    def store(self) -> SnapshotStore:
        """An empty store."""
        raise NotImplementedError("a subclass of SnapshotContract has a fixture named store")

    @pytest.fixture
    def reopen(self) -> Callable[[], SnapshotStore] | None:
        """Opens the store again; ``None``: it lives in memory."""
        return None

    def test_a_new_store_is_empty(self, store: SnapshotStore) -> None:
        assert store.newest_first() == []

    @pytest.mark.parametrize("content", _CONTENTS, ids=["empty", "small", "large", "binary"])
    def test_content_and_digest_come_back(self, store: SnapshotStore, content: bytes) -> None:
        snapshot = put(store, 5, content)
        assert store.load(snapshot, read_all) == (content, digest_of(content))

    def test_the_header_comes_back(self, store: SnapshotStore) -> None:
        put(store, 5, b"five")
        (found,) = store.newest_first()
        assert found.seq == 5
        assert found.header == header(5)

    def test_they_are_listed_newest_first_whatever_the_order_of_writing(self, store: SnapshotStore) -> None:
        for seq in (0, 12, 7):
            put(store, seq, b"%d" % seq)
        assert [snapshot.seq for snapshot in store.newest_first()] == [12, 7, 0]
        assert [store.load(snapshot, read_all)[0] for snapshot in store.newest_first()] == [b"12", b"7", b"0"]

    def test_nobody_sees_a_draft(self, store: SnapshotStore) -> None:
        draft = write(store, 5, b"five")
        assert store.newest_first() == []
        store.publish(draft, header(5))
        assert [snapshot.seq for snapshot in store.newest_first()] == [5]

    def test_a_discarded_draft_leaves_nothing(self, store: SnapshotStore) -> None:
        draft = write(store, 5, b"five")
        store.discard(draft)
        store.discard(draft)
        assert store.newest_first() == []
        put(store, 5, b"five")

    def test_what_does_not_come_back_as_it_was_is_refused(self, store: SnapshotStore) -> None:
        def dump(file: Writer) -> None:
            file.write(b"x")

        put(store, 1, b"good")
        with pytest.raises(CodecError):
            store.write(header(2), dump, lambda: digest_of(b"x"), lambda _: bytes(32))
        assert [snapshot.seq for snapshot in store.newest_first()] == [1]

    def test_an_error_while_writing_passes_and_leaves_nothing(self, store: SnapshotStore) -> None:
        def dump(file: Writer) -> None:
            file.write(b"half")
            raise _RefusedError

        with pytest.raises(_RefusedError):
            store.write(header(2), dump, lambda: bytes(32), lambda _: bytes(32))
        assert store.newest_first() == []
        put(store, 2, b"two")

    def test_an_error_while_loading_passes(self, store: SnapshotStore) -> None:
        def load(_: Source) -> bytes:
            raise CodecError("not allowed")

        snapshot = put(store, 2, b"two")
        with pytest.raises(CodecError):
            store.load(snapshot, load)
        assert store.load(snapshot, read_all)[0] == b"two"

    def test_the_same_seq_may_be_stored_again(self, store: SnapshotStore) -> None:
        put(store, 3, b"first")
        put(store, 3, b"second")
        (found,) = store.newest_first()
        assert store.load(found, read_all)[0] == b"second"

    def test_pruning_keeps_the_newest_and_returns_the_oldest_left(self, store: SnapshotStore) -> None:
        for seq in (1, 2, 3, 4):
            put(store, seq, b"%d" % seq)
        assert store.prune(2) == 3
        assert [snapshot.seq for snapshot in store.newest_first()] == [4, 3]
        assert store.prune(5) == 3

    def test_pruning_never_takes_the_last_one(self, store: SnapshotStore) -> None:
        put(store, 1, b"one")
        assert store.prune(0) == 1
        assert len(store.newest_first()) == 1

    def test_what_was_published_is_there_after_reopening(
        self, store: SnapshotStore, reopen: Callable[[], SnapshotStore] | None
    ) -> None:
        if reopen is None:
            pytest.skip("lives in memory")
        put(store, 1, b"one")
        write(store, 2, b"a draft")
        again = reopen()
        (found,) = again.newest_first()
        assert again.load(found, read_all) == (b"one", digest_of(b"one"))
