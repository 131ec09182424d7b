"""Executes the step graph against the store and the runtime: cache keys, COPY, RUN, images."""

from buildtool.solve.builder import Builder, Pull
from buildtool.solve.request import BuildRequest, BuildResult, BuildWarning, StepRecord

__all__ = ["BuildRequest", "BuildResult", "BuildWarning", "Builder", "Pull", "StepRecord"]
