"""One small change of the library per invariant, each of which a named test must notice.

``test_each_rule_can_fail.py`` puts them into a copy of the package, one at a time. A change whose text is no longer
found was overtaken by the code: write it anew.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """``old`` stands once in ``file``, below ``src/perdure``. ``tests``: of which one at least must fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CRASH = "tests/crash/"
SYSTEM = "tests/unit/system/"

MUTATIONS: dict[str, Mutation] = {
    "I4: nobody syncs each second": Mutation(
        "machine/_keeper.py",
        "                machine.sync()\n",
        "                pass\n",
        (CRASH + "test_operating_system.py::test_everysec_syncs_also_while_commands_never_pause",),
    ),
    "I9: a group is not synced": Mutation(
        "machine/_commands.py",
        "                if self._grouped:\n                    self.journal.sync()\n",
        "",
        (CRASH + "test_operating_system.py::test_one_failed_sync_fails_every_command_of_its_group",),
    ),
    "I10: nothing is rolled back": Mutation(
        "machine/_machine.py",
        "                    self.restore(seq - 1)\n",
        "                    pass\n",
        (SYSTEM + "test_outcomes.py::test_an_aborting_command_leaves_nothing_also_when_the_crash_comes_first",),
    ),
    "I11: a digest depends on the order of a set": Mutation(
        "digest.py",
        'b"".join(sorted(looks))',
        'b"".join(looks)',
        (SYSTEM + "test_open.py::test_a_replay_gives_the_same_state_whatever_the_process_is_like",),
    ),
    "I12: entries may have any size": Mutation(
        "journal/_file.py",
        "            if len(payload) > RECORD_BYTES_MAX:\n",
        "            if False:\n",
        (CRASH + "test_operating_system.py::test_a_command_that_is_too_large_changes_nothing_and_all_goes_on",),
    ),
    "I13: old files go before the new snapshot is there": Mutation(
        "snapshots/_files.py",
        "            size_bytes = self._fs.stat(draft).st_size\n",
        "            size_bytes = self._fs.stat(draft).st_size\n"
        "            for old in self.seqs():\n"
        "                self._fs.unlink(self.path_of(old))\n",
        (CRASH + "test_power_cuts.py::test_acknowledged_entries_survive_a_power_cut_at_every_step[everything]",),
    ),
    "I13: a snapshot is written in place": Mutation(
        "snapshots/_files.py",
        "        draft = temporary_name(path)\n",
        "        draft = path\n",
        (CRASH + "test_power_cuts.py", SYSTEM + "test_open.py", "tests/contracts/test_snapshot_stores.py"),
    ),
    "I14: a snapshot that fails leaves its draft": Mutation(
        "snapshots/_files.py",
        "        except BaseException:\n            self.discard(draft)\n            raise\n",
        "        except BaseException:\n            raise\n",
        (CRASH + "test_operating_system.py::test_a_snapshot_that_fails_leaves_no_file",),
    ),
    "I15: not to be able to delete is an error": Mutation(
        "journal/_file.py",
        "        except (OSError, StorageError):\n            # What could not be deleted",
        "        except ZeroDivisionError:\n            # What could not be deleted",
        (CRASH + "test_failing_disk.py",),
    ),
    "I15: files of others are deleted": Mutation(
        "fs.py",
        "if TEMPORARY_MARK in name and is_own_temporary(name):",
        "if not name.startswith(('journal', 'snapshot')):",
        (SYSTEM + "test_bad_input.py::test_foreign_files_are_left_alone",),
    ),
    "I18: the child is forked while commands go on": Mutation(
        "machine/_forked.py",
        "        pid = os.fork()\n",
        "        time.sleep(0.05)\n        threading.Event().wait(0.05)\n        pid = os.fork()\n",
        (CRASH + "test_operating_system.py::test_every_snapshot_taken_beside_commands_is_a_state_between_two",),
    ),
    "I21: a torn tail is not kept": Mutation(
        "journal/_recovery.py",
        "        fs.write_atomically(side_path, [data[cut.offset :]])\n",
        "",
        (SYSTEM + "test_bad_input.py::test_a_torn_tail_is_cut_kept_and_reported",),
    ),
    "I22: what the watermark proves is taken for torn": Mutation(
        "journal/_recovery.py",
        "    if proof is not None:\n",
        "    if False:\n",
        (CRASH + "test_damage.py",),
    ),
    "I23: any seq is accepted": Mutation(
        "records.py",
        "    if own_seq != wanted:\n",
        "    if False:\n",
        (CRASH + "test_damage.py::test_dropped_doubled_and_swapped_records_are_found",),
    ),
    "I24: a clean close leaves no seal": Mutation(
        "journal/_file.py",
        "                        self._put_mark(SEAL)\n",
        "                        pass\n",
        (CRASH + "test_damage.py::test_no_flipped_bit_changes_what_was_closed_cleanly",),
    ),
    "I26: text that is no UTF-8 gets out": Mutation(
        "journal/_framing.py",
        "(msgspec.MsgspecError, ValueError, RecursionError)",
        "msgspec.MsgspecError",
        (CRASH + "test_hostile_bytes.py",),
    ),
    "I27: a newer version is read as if it were this one": Mutation(
        "journal/_framing.py",
        "        if version > FORMAT_VERSION:\n",
        "        if False:\n",
        (SYSTEM + "test_bad_input.py", "tests/interop"),
    ),
    "I28: a reader writes": Mutation(
        "system/_follower.py",
        "        self.snapshots = place.store()\n",
        "        self.snapshots = place.store()\n        place.fs.write_atomically(self.path + '/seen', [])\n",
        (SYSTEM + "test_open.py::test_a_reader_writes_nothing",),
    ),
    "I29: repair deletes where it should move": Mutation(
        "repair/_repair.py",
        "            self._fs.rename(path, os.path.join(folder, os.path.basename(path)))\n",
        "            self._fs.unlink(path)\n",
        ("tests/unit/repair/test_repair.py",),
    ),
    "I31: nothing is locked": Mutation(
        "fs.py",
        "            fs.lock(self._fd)\n",
        "",
        (SYSTEM + "test_bad_input.py::test_another_opening_in_the_same_process_is_refused",),
    ),
    "I32: a child unlocks for its parent": Mutation(
        "fs.py",
        "    def after_fork_in_child(self) -> None:\n        self.release()\n",
        "    def after_fork_in_child(self) -> None:\n        fcntl.flock(self._fd, fcntl.LOCK_UN)\n",
        (CRASH + "test_operating_system.py::test_a_forked_child_leaves_its_parents_lock_alone",),
    ),
    "I33: no locks is no matter": Mutation(
        "fs.py",
        "            is_open = self._fd >= 0\n",
        "            is_open = self._fd >= 0\n            if error.errno == errno.ENOLCK:\n                return\n",
        (CRASH + "test_operating_system.py::test_a_file_system_without_locks_is_refused",),
    ),
    "I37: a descriptor is left open": Mutation(
        "fs.py",
        "0, self.size(fd))\n        finally:\n            self.close(fd)\n",
        "0, self.size(fd))\n        except ValueError:\n            self.close(fd)\n",
        (CRASH + "test_failing_disk.py::test_nothing_acknowledged_is_lost_whichever_call_fails",),
    ),
    "I38: the time of entries follows the clock back": Mutation(
        "journal/_file.py",
        "        if now_ns > at_ns:\n",
        "        if True:\n",
        (CRASH + "test_system_breakers.py::test_a_clock_that_jumps_changes_no_order",),
    ),
    "I39: a folder open to others is taken": Mutation(
        "fs.py",
        "    if found.st_mode & others:\n",
        "    if False:\n",
        (SYSTEM + "test_bad_input.py::test_the_folder_is_private_and_one_that_is_not_is_refused",),
    ),
    "I40: a slash stays in the name of a file": Mutation(
        "stash/_names.py",
        '_TO_ENCODE = re.compile(rb"[^a-z0-9_=@+,.\\-]")',
        '_TO_ENCODE = re.compile(rb"[^a-z0-9_=@+,./\\-]")',
        ("tests/unit/stash/test_names.py",),
    ),
}
