"""Registries: the client that pulls and pushes, and a registry server."""

from buildtool.registry.config import RegistryConfig
from buildtool.registry.credentials import Credentials, find_credentials
from buildtool.registry.push import Manner
from buildtool.registry.retry import RetryPolicy
from buildtool.registry.service import Registries, Remote

__all__ = ["Credentials", "Manner", "Registries", "RegistryConfig", "Remote", "RetryPolicy", "find_credentials"]
