"""Container lifecycle service: create, start, attach, exec, logs, wait, remove."""

from buildtool.containers.container import Container
from buildtool.containers.events import Events
from buildtool.containers.service import Containers
from buildtool.containers.waiters import WaitResult

__all__ = ["Container", "Containers", "Events", "WaitResult"]
