"""Executes the step graph against the store and the runtime."""
