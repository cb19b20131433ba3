"""Outputs: whole or not at all, never over something else, one process at a time."""

import errno
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cgatlib import CgatError
from cgatlib.files import file_digest, locked, made_once, refuse_same, replacing


def ours(path: Path) -> bool:
    """A file that starts with the word, or a folder with a file of that name."""
    return (path / "ours").is_file() if path.is_dir() else path.read_text().startswith("ours")


def write(out: Path, text: str = "ours 2", then: Callable[[], None] = lambda: None) -> None:
    with replacing(out, "one of ours", ours) as part:
        part.write_text(text)
        then()


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def write_folder(out: Path, text: str) -> None:
    with replacing(out, "one of ours", ours) as part:
        part.mkdir()
        (part / "ours").write_text(text)


def test_a_file_and_a_folder_appear_whole_and_leave_nothing_beside_them(tmp_path):
    write(tmp_path / "new" / "file")
    write_folder(tmp_path / "new" / "folder", "1")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"file", "folder"}
    assert file_digest(tmp_path / "new" / "folder" / "ours") == (
        "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    )


def test_what_is_recognised_is_replaced_and_told(tmp_path, caplog):
    for text in ("ours 1", "ours 2"):
        write(tmp_path / "file", text)
        write_folder(tmp_path / "folder", text)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "ours").read_text() == "ours 2"
    assert caplog.messages == [f"{tmp_path / name} (one of ours) exists and is replaced" for name in ("file", "folder")]
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_else_is_refused_before_the_work(kind, tmp_path):
    out = tmp_path / "theirs"
    if kind == "file":
        out.write_text("theirs")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("theirs")
    worked: list[int] = []
    with pytest.raises(CgatError, match="theirs exists and is not one of ours: it is not replaced"):
        write(out, then=lambda: worked.append(1))
    assert not worked
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_what_comes_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(CgatError, match="is not replaced"):
        write(tmp_path / "out", then=lambda: (tmp_path / "out").write_text("theirs"))
    assert (tmp_path / "out").read_text() == "theirs"


def test_neither_a_link_nor_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "file").write_text("ours 1")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    for name in ("link", "dangling"):
        with pytest.raises(CgatError, match=f"{name} is a symbolic link"):
            write(tmp_path / name)
    assert (tmp_path / "file").read_text() == "ours 1"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("out", [".", "..", "sub/..", "/"])
def test_a_folder_is_no_name_for_an_output(out, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CgatError):
        write(Path(out))
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_what_the_system_refuses_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CgatError, match=r"file/out cannot be written: .*File exists|Not a directory"):
        write(tmp_path / "file" / "out")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(CgatError, match="out cannot be written: No space left on device"):
        write(tmp_path / "out", then=failing(full))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_block_leaves_what_was_there(tmp_path):
    write(tmp_path / "out", "ours 1")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", then=failing(KeyboardInterrupt()))
    assert (tmp_path / "out").read_text() == "ours 1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    dead = multiprocessing.get_context("spawn").Process(target=print)
    dead.start()
    dead.join()
    gone = [f".x.{dead.pid}-{socket.gethostname()}.cgatlib.partial", ".x.cgatlib.lock", ".out.7-far.cgatlib.partial"]
    kept = [f".x.{os.getppid()}-{socket.gethostname()}.cgatlib.partial", ".x.7-far.cgatlib.partial", ".x.partial"]
    for name in gone + kept:
        (tmp_path / name).write_text("")
    write(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *kept}


def test_an_old_folder_that_was_aside_at_a_kill_comes_back(tmp_path):
    (tmp_path / ".out.7-far.cgatlib.old").mkdir()
    (tmp_path / ".out.7-far.cgatlib.old" / "theirs").write_text("")
    with pytest.raises(CgatError, match="is not one of ours"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "theirs").exists()


def test_an_output_is_none_of_the_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a").write_text("")
    Path("b").hardlink_to("in/a")
    for out in ("in/a", tmp_path / "in" / "a", "in/../in/a", "b"):
        with pytest.raises(CgatError, match="is an input: it is not replaced"):
            refuse_same(Path(out), Path("c"), Path("in/a"))
    with pytest.raises(CgatError, match="in holds the input in/a: it is not replaced"):
        refuse_same(Path("in"), Path("in/a"))
    refuse_same(Path("in/c"), Path("in/a"), Path("in"))


def make_slowly(out: Path, log: Path) -> None:
    def make(part: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.2)
        part.write_text("ours")

    for number in range(5):
        made_once(out / str(number), "one of ours", ours, make)


def test_of_three_processes_one_makes_what_all_use(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make_slowly, args=(tmp_path / "out", tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == 5 * "made\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list("01234")


def test_a_lock_leaves_nothing(tmp_path):
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
