"""Tests of buildtool.images.sbom."""
