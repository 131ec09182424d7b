"""Executes the step graph against the store and the runtime: cache keys, COPY, RUN, images."""

from buildtool.solve.base_trees import BaseRegistry
from buildtool.solve.builder import Builder
from buildtool.solve.request import BuildRequest, BuildResult, BuildWarning, StepRecord

__all__ = ["BaseRegistry", "BuildRequest", "BuildResult", "BuildWarning", "Builder", "StepRecord"]
