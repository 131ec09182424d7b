"""The build checks: their names, what they are about, where they are explained.

Source: ../shared/reference/build.md, table 1.4.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from buildtool.buildfile.instructions import EXPERIMENTAL_RULES

_HELP = "https://docs.docker.com/go/dockerfile/rule/{}/"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Rule(NamedTuple):
    """A build check. Experimental ones run only when asked for."""

    name: str
    description: str

    @property
    def url(self) -> str:
        """The page that explains it: BuildKit's, as the rules are its."""
        return _HELP.format(_WORDS.sub("-", self.name).lower())

    @property
    def experimental(self) -> bool:
        return self.name in EXPERIMENTAL_RULES


RULES = {
    name: Rule(name, description)
    for name, description in {
        "StageNameCasing": "Stage names are lowercase",
        "FromAsCasing": "FROM and its AS are both upper or both lower case",
        "NoEmptyContinuation": "No empty lines inside a continued instruction",
        "ConsistentInstructionCasing": "All instructions of a file are upper case, or all lower case",
        "DuplicateStageName": "Every stage has a name of its own",
        "ReservedStageName": "scratch and context are no names for stages",
        "JSONArgsRecommended": "CMD and ENTRYPOINT in JSON form get signals; in shell form the shell does",
        "MaintainerDeprecated": "MAINTAINER is deprecated, a label does its work",
        "UndefinedArgInFrom": "FROM uses only ARGs that are declared before it",
        "WorkdirRelativePath": "A relative WORKDIR depends on what the base image sets",
        "UndefinedVar": "Variables are defined before they are used",
        "MultipleInstructionsDisallowed": "Of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last counts",
        "LegacyKeyValueFormat": "ENV and LABEL are written key=value",
        "InvalidBaseImagePlatform": "The base image is of the platform that is built for",
        "RedundantTargetPlatform": "FROM takes the target platform without being told",
        "SecretsUsedInArgOrEnv": "Secrets do not belong into ARG or ENV: they stay in the image",
        "InvalidDefaultArgInFrom": "The defaults of ARGs make a valid base image name",
        "FromPlatformFlagConstDisallowed": "FROM --platform is no constant",
        "CopyIgnoredFile": "COPY and ADD name no files that .dockerignore excludes",
        "InvalidDefinitionDescription": "A comment above FROM or ARG is `# <name> <description>`",
        "ExposeProtoCasing": "The protocol of EXPOSE is lowercase",
        "ExposeInvalidFormat": "EXPOSE takes no host address and no host port",
    }.items()
}
