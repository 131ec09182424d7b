"""Instructions to a networkx DAG of steps, and the keys of steps. Pure: nothing is read or run here."""

from buildtool.graph.options import BaseImage, BaseNeed, PlanOptions
from buildtool.graph.plan import EARLIEST, ImagePlan, Plan, missing_bases, plan
from buildtool.graph.platforms import of_platform, plan_all, platform_options
from buildtool.graph.stages import image_key
from buildtool.graph.state import HistoryLine
from buildtool.graph.steps import (
    KEY_VERSION,
    Copy,
    Exec,
    InlineFile,
    Merge,
    Mkdir,
    Node,
    Remote,
    Source,
    Squash,
    Step,
    StepDevice,
    StepId,
    StepMount,
    content_definition,
    definition,
    digest_of,
    step_id,
)

__all__ = [
    "EARLIEST",
    "KEY_VERSION",
    "BaseImage",
    "BaseNeed",
    "Copy",
    "Exec",
    "HistoryLine",
    "ImagePlan",
    "InlineFile",
    "Merge",
    "Mkdir",
    "Node",
    "Plan",
    "PlanOptions",
    "Remote",
    "Source",
    "Squash",
    "Step",
    "StepDevice",
    "StepId",
    "StepMount",
    "content_definition",
    "definition",
    "digest_of",
    "image_key",
    "missing_bases",
    "of_platform",
    "plan",
    "plan_all",
    "platform_options",
    "step_id",
]
