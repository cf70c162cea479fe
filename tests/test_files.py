"""Files are complete or absent, and interrupted work resumes."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pyarrow as pa
import pytest

from gzoo import files
from gzoo.errors import (
    BusyError,
    DatasetError,
    GZooWarning,
    InputError,
    NotFoundError,
    OutputExistsError,
    ReadError,
    raise_passing,
)

BEGUN = {"command": "build", "of": 1}


def finish(out: Path, begun: dict[str, object] | None = None, *, overwrite: bool = False, word: str = "done") -> None:
    with files.work(out, kind="dataset", begun=begun or BEGUN, overwrite=overwrite) as partial:
        (partial / "result.txt").write_text(word)
        files.write_manifest(partial, {})


def stop(out: Path, error: BaseException | None = None) -> None:
    with files.work(out, kind="dataset", begun=BEGUN) as partial:
        (partial / "half.txt").write_text("half")
        (partial / ".result.txt.writing").write_text("ha")
        raise error or KeyboardInterrupt


def test_the_final_folder_appears_when_the_work_is_done(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with files.work(out, kind="dataset", begun=BEGUN) as partial:
        assert partial == tmp_path / "new" / ".out.gzoo-partial"
        files.write_manifest(partial, {"campaign": "gz2"})
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["manifest.json"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert files.open_folder(out)["campaign"] == "gz2"


def test_interrupted_work_resumes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with files.work(tmp_path / "out", kind="dataset", begun=BEGUN) as partial:
        assert {path.name for path in partial.iterdir()} == {"begun.json", "half.txt"}


def test_work_that_ends_with_an_input_error_is_removed(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        stop(tmp_path / "out", InputError("no"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("dataset", "work/shard-00001.json"),
        ("run", "last.ckpt"),
        ("simulation", "images/a.jpg"),
        ("demo", "simulation/votes.parquet"),
    ],
)
@pytest.mark.parametrize("error", [InputError("no"), ReadError("no"), OSError("no"), MemoryError()])
def test_finished_parts_are_kept_after_every_error(tmp_path: Path, kind: str, part: str, error: Exception) -> None:
    with pytest.raises(type(error)), files.work(tmp_path / "out", kind=kind, begun=BEGUN) as partial:  # noqa: PT012
        (partial / part).parent.mkdir(exist_ok=True)
        (partial / part).touch()
        raise error
    assert [path.name for path in tmp_path.iterdir()] == [".out.gzoo-partial"]
    assert (partial / part).exists()


def test_the_work_of_an_earlier_run_is_kept_after_every_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "out")
    with pytest.raises(InputError):
        stop(tmp_path / "out", InputError("no"))
    assert (tmp_path / ".out.gzoo-partial" / "half.txt").exists()


def test_a_folder_in_which_nothing_was_made_is_removed(tmp_path: Path) -> None:
    def fail() -> None:
        with files.work(tmp_path / "out", kind="dataset", begun=BEGUN) as partial:
            (partial / "images").mkdir()
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert not list(tmp_path.iterdir())


def test_an_earlier_result_comes_back_if_it_could_not_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    finish(out, word="first")
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == ".out.gzoo-partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="Input/output"):
            finish(out, overwrite=True, word="second")
    assert (out / "result.txt").read_text() == "first"
    out.rename(tmp_path / ".out.gzoo-old")  # as if the process had been killed between the two
    with pytest.raises(OutputExistsError, match="already contains"):
        finish(out)
    assert (out / "result.txt").read_text() == "first"
    finish(out, overwrite=True, word="third")
    assert (out / "result.txt").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EMFILE, "Too many open files"), ReadError),
        (PermissionError(errno.EACCES, "Permission denied"), ReadError),
        (OSError("Too many open files (os error 24): /tmp/a.parquet"), ReadError),
        (MemoryError(), MemoryError),
        (pa.ArrowMemoryError("malloc of size 64 failed"), MemoryError),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (FileNotFoundError("No such file or directory (os error 2): /tmp/a.parquet"), None),
        (OSError("Corrupt snappy compressed data."), None),
        (pa.ArrowInvalid("magic bytes not found"), None),
        (ValueError("not JSON"), None),
    ],
)
def test_errors_of_the_system_are_not_damaged_data(error: Exception, kind: type[Exception] | None) -> None:
    if kind is None:
        raise_passing(Path("a"), error)
    else:
        with pytest.raises(kind) as found:
            raise_passing(Path("a"), error)
        assert not isinstance(found.value, InputError)


def test_unfinished_work_of_another_command_is_kept_or_replaced(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "out")
    with pytest.raises(OutputExistsError, match=r"unfinished work of another command that differs in of \(then 1\)"):
        finish(tmp_path / "out", {"command": "build", "of": 2})
    finish(tmp_path / "out", {"command": "build", "of": 2}, overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.txt", "manifest.json"}


def test_a_foreign_folder_with_the_name_of_unfinished_work_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".out.gzoo-partial").mkdir()
    with pytest.raises(OutputExistsError, match="not unfinished work of gzoo"):
        finish(tmp_path / "out", overwrite=True)


def test_a_finished_result_is_replaced_only_when_the_new_one_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(out, word="first")
    with pytest.raises(OutputExistsError, match="finished dataset"):
        finish(out)
    with pytest.raises(KeyboardInterrupt), files.work(out, kind="dataset", begun=BEGUN, overwrite=True):
        raise KeyboardInterrupt
    assert (out / "result.txt").read_text() == "first"
    finish(out, overwrite=True, word="second")
    assert (out / "result.txt").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", sorted(files.MARKS))
def test_no_result_is_put_into_a_dataset(tmp_path: Path, kind: str) -> None:
    with files.work(tmp_path / "out", kind="dataset", begun=BEGUN) as partial:
        files.write_manifest(partial, {})
    (tmp_path / "out" / "data").mkdir(exist_ok=True)
    for place in ("run", "data/run"):
        with pytest.raises(InputError, match="inside the dataset folder"):
            files.refuse_occupied(tmp_path / "out" / place, kind=kind, overwrite=True)
    files.refuse_occupied(tmp_path / "run", kind=kind, overwrite=False)


@pytest.mark.parametrize("kind", sorted(files.MARKS))
def test_a_folder_with_a_marker_of_another_program_is_kept(tmp_path: Path, kind: str) -> None:
    (tmp_path / files.MARKS[kind]).write_text('{"format": "of another program"}')
    with pytest.raises(OutputExistsError, match="that gzoo made"):
        files.refuse_occupied(tmp_path, kind=kind, overwrite=True)
    key, value = files.SIGNS[kind]
    files.write_json(tmp_path / files.MARKS[kind], {key: value})
    files.refuse_occupied(tmp_path, kind=kind, overwrite=True)


def test_an_empty_folder_may_become_the_result(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    finish(tmp_path / "out")
    assert (tmp_path / "out" / "result.txt").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    schema = pa.schema([("a", pa.int32())])
    with files.write_parquet(path, schema) as writer:
        writer.write_table(pa.table({"a": pa.array([1], pa.int32())}))
    before = path.read_bytes()
    with pytest.raises(RuntimeError), files.write_parquet(path, schema) as writer:  # noqa: PT012
        writer.write_table(pa.table({"a": pa.array([2], pa.int32())}))
        raise RuntimeError
    assert path.read_bytes() == before


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1}) != files.digest({"a": 2, "b": 1})


def test_folders_that_are_not_datasets_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        files.open_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="not a dataset folder"):
        files.open_folder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "out")
    with pytest.raises(NotFoundError, match="not finished"):
        files.open_folder(tmp_path / "out")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match="Cannot read"):
        files.open_folder(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "gzoo-dataset-9"}')
    with pytest.raises(DatasetError, match="gzoo-dataset-9"):
        files.open_folder(tmp_path)


# ----------------------------------------------------------------------------------------------------
# The lock

HOLD = """
import sys
from pathlib import Path
from gzoo import files
with files.work(Path(sys.argv[1]), kind="dataset", begun={"command": "build", "of": 1}) as partial:
    (partial / "half.txt").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
    files.write_manifest(partial, {})
"""


def hold(out: Path) -> subprocess.Popen[str]:
    """Another process that works on a result until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_run_names_the_first_or_waits_for_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = hold(out)
    for overwrite in (False, True):
        with pytest.raises(BusyError, match=r"(?s)Another run writes.*command: build, since 20.*--wait") as found:
            finish(out, overwrite=overwrite)
        assert f"process {process.pid} on {platform.node()}" in found.value.message
    assert (tmp_path / ".out.gzoo-partial" / "half.txt").exists()
    said: list[tuple[str, int, int]] = []
    ended: list[str] = []

    def wait() -> None:
        try:
            with files.work(out, kind="dataset", begun=BEGUN, wait=True, progress=lambda *what: said.append(what)):
                ended.append("made")
        except OutputExistsError as error:
            ended.append(error.message)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(1)
    assert thread.is_alive()
    assert not ended
    assert [what[0].split(" on ")[0] for what in said] == [f"Waiting for process {process.pid}"]
    process.communicate("")
    thread.join(30)
    assert ended == [f"'{out}' already contains a finished dataset."]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_ends_with_its_process_and_the_work_resumes(tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((tmp_path / ".out.gzoo-lock").read_text())["process"] == process.pid
    with files.work(tmp_path / "out", kind="dataset", begun=BEGUN) as partial:
        assert (partial / "half.txt").exists()
        assert json.loads((tmp_path / ".out.gzoo-lock").read_text())["process"] == os.getpid()
        files.write_manifest(partial, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_file_systems_without_locks_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, **_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.warns(GZooWarning, match="does not have locks"):
        finish(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
