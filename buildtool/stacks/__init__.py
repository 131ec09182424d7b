"""Stacks of services described in Compose's YAML: loading (pure), and running as a client of the Engine API."""
