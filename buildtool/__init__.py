"""buildtool: build, run and ship OCI images with Docker's files, commands and API."""

__version__ = "0.1.0"
