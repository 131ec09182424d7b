"""The same provenance in SLSA's older form, for readers that know no other.

Source: SLSA v0.2, provenance; the shape of BuildKit's, docs/attestations/slsa-definitions.md, "SLSA v0.2".
"""

from __future__ import annotations

from typing import Any

BUILD_TYPE = "urn:buildtool:build:v1"


def to_v02(predicate: dict[str, Any]) -> dict[str, Any]:
    """A v1 predicate as a v0.2 one: nothing is added or left out. Pure."""
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    source, metadata = dict(external["configSource"]), details["metadata"]
    complete = metadata["buildtool_completeness"]
    invocation = {
        "configSource": {("entryPoint" if name == "path" else name): value for name, value in source.items()},
        "parameters": external["request"],
        "environment": {"platform": internal["builderPlatform"]},
    }
    found: dict[str, Any] = {
        "builder": {"id": details["builder"]["id"]},
        "buildType": BUILD_TYPE,
        "invocation": invocation,
        "materials": definition["resolvedDependencies"],
        "metadata": {
            "buildInvocationID": metadata["invocationId"],
            "buildStartedOn": metadata["startedOn"],
            "buildFinishedOn": metadata["finishedOn"],
            "completeness": {
                "parameters": complete["request"],
                "environment": True,
                "materials": complete["resolvedDependencies"],
            },
            "reproducible": metadata["buildtool_reproducible"],
            f"{BUILD_TYPE}#hermetic": metadata["buildtool_hermetic"],
        },
    }
    if "buildConfig" in internal:
        found["buildConfig"] = internal["buildConfig"]
    if "buildtool_metadata" in metadata:
        found["metadata"][f"{BUILD_TYPE}#metadata"] = metadata["buildtool_metadata"]
    return found
