"""The C headers of the kernels: every name stands for one thing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import selfreg


def test_every_c_name_is_defined_once() -> None:
    names: Counter[str] = Counter()
    for path in sorted((Path(selfreg.__file__).parent / "_core").glob("*.h")):
        text = re.sub(r"THIS\((\w+)\)", r"\1", path.read_text(encoding="utf-8"))  # included once for each kind of lanes
        structs = re.findall(r"^struct (\w+) \{", text, re.M) + re.findall(r"^\} (\w+);", text, re.M)
        functions = re.findall(r"^SELFREG_(?:INLINE|CLONES)\b[^;{(]*?(\w+)\(", text, re.M)
        names.update({*structs, *functions})
    assert {"selfreg_group_sweep", "selfreg_lattice_sweep", "selfreg_sweep"} <= set(names)
    assert [name for name, count in names.items() if count > 1] == []
