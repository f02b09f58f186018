"""Public names of prm, helper and runtime without extras: they work, or name the extra."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

BLOCKED = {
    "adbc_driver_manager", "msgspec", "peft", "psycopg", "pyarrow", "ray", "rich", "safetensors", "sklearn",
    "tokenizers", "tomli_w", "torch", "transformers", "typer",
}


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Block())
import importlib

for room in ("selfreg.prm", "selfreg.helper", "selfreg.runtime", "selfreg.runtime.ledger"):
    module = importlib.import_module(room)
    for name in getattr(module, "__all__", ()):
        try:
            getattr(module, name)
        except ImportError as error:
            text = str(error)
            print(f"{room}.{name}: {'named' if 'pip install' in text and 'selfreg[' in text else 'raw'}: {text}")
        else:
            print(f"{room}.{name}: works")
"""


def test_public_names_work_without_extras_or_name_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 30, lines
    assert [line for line in lines if ": raw: " in line] == []
    assert any(line.startswith("selfreg.prm.read_scores: named: ") and "selfreg[logs]" in line for line in lines)
