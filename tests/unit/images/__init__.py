"""Tests of buildtool.images."""
