"""Stacks end to end."""
