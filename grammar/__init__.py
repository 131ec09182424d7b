"""Lark grammars of the Buildfile language."""
