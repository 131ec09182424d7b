"""Tests of buildtool.oci."""
