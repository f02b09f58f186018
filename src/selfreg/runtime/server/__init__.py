"""Decisions and the desk over HTTP (extra `serve`); `selfreg serve` runs it."""

from selfreg.runtime.server.app import create_app
from selfreg.runtime.server.process import run_server
from selfreg.runtime.server.service import ForecastCheck, Service

__all__ = ["ForecastCheck", "Service", "create_app", "run_server"]
