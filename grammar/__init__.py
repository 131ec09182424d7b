"""Lark grammars of the Buildfile language."""

from buildtool.grammar.loader import load

__all__ = ["load"]
