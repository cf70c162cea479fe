"""Files are complete or absent, and interrupted work resumes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from gzoo import files
from gzoo.errors import DatasetError, InputError, NotFoundError, OutputExistsError

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
def test_a_folder_with_a_marker_of_another_program_is_kept(tmp_path: Path, kind: str) -> None:
    (tmp_path / files.MARKS[kind]).write_text('{"format": "of another program"}')
    with pytest.raises(OutputExistsError, match="did not make"):
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
