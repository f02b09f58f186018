"""The server's process: a socket, JSON logs, and a stop that answers what is under way."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, TextIO

from selfreg._util.extras import require_extra
from selfreg.runtime.server.service import Service

with require_extra("serve", "selfreg.runtime.server"):
    import uvicorn


class JSONLines(logging.Formatter):
    """A record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, what happened, and the record's own fields."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def run_server(
    app: Any, service: Service, *, host: str = "127.0.0.1", port: int = 8000, log: TextIO = sys.stderr
) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are answered before it returns.

    Parameters
    ----------
    app : Starlette
        Of `create_app`.
    service : Service
    host : str
        Address to listen on: this machine only, unless another one is given.
    port : int
        0 for any that is free.
    log : text stream, optional
        Gets a JSON object a line; the error stream by default.

    Returns
    -------
    int
        The port.

    Raises
    ------
    OSError
        The address cannot be used.
    """
    _log_to(sys.stderr if log is None else log)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small writes at once only where the protocol is named; else replies may wait for 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1024)  # whoever reads the log and connects at once waits, and is not refused
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
        bound = int(listener.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        stop = server.handle_exit

        def handle_exit(number: int, frame: FrameType | None) -> None:
            service.stopping.set()  # whoever waits for a person gets the request as it is
            stop(number, frame)

        server.handle_exit = handle_exit
        if threading.current_thread() is threading.main_thread():
            # uvicorn raises the signal again when all is answered; the process then ends by itself, with status 0.
            signal.signal(signal.SIGTERM, lambda *_: None)
        where = f"[{host}]" if family == socket.AF_INET6 else host
        logging.getLogger("selfreg.serve").info("listening", extra={"fields": {"url": f"http://{where}:{bound}"}})
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    logging.getLogger("selfreg.serve").info("stopped")
    return bound


def _log_to(stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONLines())
    for name, level in (("selfreg.serve", logging.INFO), ("uvicorn.error", logging.WARNING), ("py.warnings", 30)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.captureWarnings(True)
