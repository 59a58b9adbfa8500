"""The parent's end of peer_worker.py: start an engine's process, ask it, stop and continue it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

_WORKER = Path(__file__).with_name("peer_worker.py")
_PATIENCE_S = 600.0


class EngineFailure(Exception):
    """What an engine's process answered instead of a result."""


def is_installed(package: str, python: str = sys.executable) -> bool:
    """Whether a Python interpreter finds a package."""
    script = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    done = subprocess.run([python, "-c", script], capture_output=True, check=False, env=_environment(1))
    return done.returncode == 0


def _environment(threads: int) -> dict[str, str]:
    """This process's variables with the same thread count for every library that reads one of them."""
    count = str(threads)
    return os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": "1"}


class EngineProcess:
    """A running worker. A context manager that ends it.

    Between two questions the process is stopped by a signal: whatever its threads do after an inference, spinning for
    instance, they do in its own turn only, and every engine keeps its own defaults.
    """

    def __init__(self, engine: str, threads: int, python: str = sys.executable) -> None:
        self.engine = engine
        self.threads = threads
        self._process = subprocess.Popen(
            [python, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env=_environment(threads),
        )

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """Let the process run until it has answered. EngineFailure if it refuses, ends or takes too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            self._process.send_signal(signal.SIGCONT)
            stdin.write(json.dumps({"do": do, **command}) + "\n")
            stdin.flush()
        except OSError:
            raise EngineFailure(f"its process ended{self._how()}") from None
        if not select.select([stdout], [], [], _PATIENCE_S)[0]:
            raise EngineFailure(f"no answer within {_PATIENCE_S:.0f} s")
        line = stdout.readline()
        if not line:
            raise EngineFailure(f"its process ended{self._how()}")
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailure(answer["error"])
        return answer

    def _how(self) -> str:
        code = self._process.wait()
        return f" by signal {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"
