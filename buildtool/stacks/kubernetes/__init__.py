"""A stack as manifests of Kubernetes: a function of the canonical model, which tells what it leaves out."""

from buildtool.stacks.kubernetes.export import Exported, export_stack

__all__ = ["Exported", "export_stack"]
