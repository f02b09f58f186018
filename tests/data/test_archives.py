"""Logs in archives and streams: zip and tar in all compressions, broken ones, and files that are no logs."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from formats.cases import CASES

from selfreg.data import LogError, detect_format, read_trajectories

LINES = "".join(json.dumps({"task": t, "outcome": 1, "steps": [{"observation": "a"}]}) + "\n" for t in "xy").encode()
PACK = {
    ".tar": lambda data: data,
    ".tar.gz": lambda data: pa.compress(data, "gzip", asbytes=True),
    ".tgz": lambda data: pa.compress(data, "gzip", asbytes=True),
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def make_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (("logs/a.jsonl", LINES), ("../../b.jsonl", LINES), ("logs/notes.md", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("logs/link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", PACK)
def test_tar_archives_are_looked_into(tmp_path, suffix) -> None:
    log = tmp_path / f"logs{suffix}"
    log.write_bytes(PACK[suffix](make_tar()))
    found = detect_format(log)
    assert sorted(file.label for file in found.files) == ["b.jsonl", "logs/a.jsonl"]
    assert [name.rpartition("/")[2] for name in found.left_out] == ["notes.md (not a log by its name)"]
    assert sorted(one.episode for one in read_trajectories(log)) == [
        "b.jsonl:1", "b.jsonl:2", "logs/a.jsonl:1", "logs/a.jsonl:2",
    ]  # fmt: skip
    assert not (tmp_path.parent / "b.jsonl").exists()


@pytest.mark.parametrize("suffix", PACK)
def test_broken_tar_archives_are_named(tmp_path, suffix) -> None:
    log = tmp_path / f"logs{suffix}"
    log.write_bytes(PACK[suffix](make_tar())[: 800 if suffix == ".tar" else -60])
    with pytest.raises(LogError, match=rf"logs{suffix}: (broken tar archive|member '.+' is broken)"):
        list(read_trajectories(log))


@pytest.mark.parametrize(("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
def test_other_compressions(tmp_path, suffix, pack) -> None:
    log = tmp_path / f"log.jsonl{suffix}"
    log.write_bytes(pack(LINES))
    assert len(list(read_trajectories(log))) == 2
    log.write_bytes(pack(LINES * 1000)[:-20])
    with pytest.raises(LogError, match=r"log.jsonl\.(bz2|xz)"):
        list(read_trajectories(log, "jsonl"))


@pytest.mark.parametrize("name", ["logs.tar.gz", "popularity.eval"])
def test_archives_from_standard_input(tmp_path, name) -> None:
    case = next(case for case in CASES if case.name == "inspect" and case.file.endswith(".eval"))
    data = PACK[".tar.gz"](make_tar()) if name.endswith("gz") else case.pack(case.value)
    script = "from selfreg.data import read_trajectories; print(len(list(read_trajectories('-'))))"
    run = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert int(run.stdout) == (4 if name.endswith("gz") else 1)


@pytest.mark.parametrize(
    ("name", "what"), [("a.xlsx", "save its sheet as CSV"), ("a.yaml", "yq -o=json"), ("a.pkl", "to_parquet")]
)
def test_files_that_are_no_logs_say_what_to_do(tmp_path, name, what) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(LogError, match=rf"{name}: it is .*{what}"):
        read_trajectories(tmp_path / name)


def test_a_damaged_file_is_not_taken_for_another_layout(tmp_path) -> None:
    """The fault is the damage, and not that the document is indented."""
    episodes = [{"task_id": i, "reward": 1, "traj": [{"role": "user", "content": "x" * 99}]} for i in range(50)]
    data = bytearray(json.dumps(episodes).encode())
    data[3000:3004] = b'"\x00]}'
    (log := Path(tmp_path / "log.json")).write_bytes(data)
    assert detect_format(log).format.name == "tau_bench"
    with pytest.raises(LogError, match=r"log.json: not JSON"):
        list(read_trajectories(log))
