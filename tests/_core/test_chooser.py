"""Choice of kernels."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import selfreg._core
from selfreg._core import chooser


def test_a_kernel_that_another_thread_imports_is_complete(tmp_path, monkeypatch) -> None:
    (tmp_path / "_slow.py").write_text("import time\ntime.sleep(0.3)\ncomplete = True\n", encoding="utf-8")
    monkeypatch.setattr(selfreg._core, "__path__", [*selfreg._core.__path__, str(tmp_path)])
    monkeypatch.setitem(chooser.COMPILED, "slow", "cython")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(chooser.kernel, "slow", "cython")
        while "selfreg._core._slow" not in sys.modules:
            time.sleep(0.001)
        assert chooser.kernel("slow", "cython").complete
        assert first.result().complete
