"""Cache keys, each the digest of a preimage that is kept for `explain`. Pure.

Three levels are tried in order:

definition key  what is done, on the definition keys of the inputs. For files of the context their content stands
                in it: it is known after one scan. Enough for a fully cached build.
content key     for COPY, ADD and WORKDIR: what is done, with which contents, and the few facts of the target's tree
                that matter. The same for another base, another parent, other names of the same files.
equal trees     for RUN (early cutoff): an equal step was executed on trees that are the same, layer by layer, as
                those it would see now. `seen_key` finds those executions; see trees.py.

A step that is executed anew on the same inputs (RUN --no-cache, --cache-ttl) has keys of its own each time: its
definition preimage gets a generation, so what stands on the old result is not taken for what stands on the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildtool.graph import KEY_VERSION, Copy, Node, Source, content_definition, definition, digest_of
from buildtool.oci import Digest

Preimage = dict[str, Any]
SCRATCH_KEY = "scratch"


def source_key(step: Source) -> str:
    """The key, and the identity, of a base image's tree: what its layers are, whatever it is called."""
    return step.chain_id or SCRATCH_KEY


def definition_preimage(node: Node, inputs: Sequence[str], content: str = "", generation: str = "") -> Preimage:
    """`inputs` are the definition keys of the node's inputs, `content` the digest of what a Copy takes from the
    context.
    """
    step = node.step
    known = isinstance(step, Copy) and step.from_context
    preimage: Preimage = {
        "v": KEY_VERSION,
        "level": "definition",
        "step": content_definition(step) if known else definition(step),
        "inputs": list(inputs),
        "content": content,
    }
    return preimage | {"generation": generation} if generation else preimage


def generation_pointer(key: str) -> Digest:
    """Under this key stands the generation that counts for a step with --cache-ttl."""
    return digest_of({"v": KEY_VERSION, "level": "generation", "of": key})


def content_preimage(node: Node, content: str, facts: dict[str, Any]) -> Preimage:
    """`content` is the digest of the selected files, `facts` what was found at the destination."""
    return {
        "v": KEY_VERSION,
        "level": "content",
        "step": content_definition(node.step),
        "content": content,
        "facts": facts,
    }


def seen_key(node: Node) -> Digest:
    """Under this key stand the definition keys of earlier executions of an equal step, on whatever inputs."""
    return seen_key_of(definition(node.step))


def seen_key_of(step: Any) -> Digest:
    """The same, of what stands as `step` in a preimage."""
    return digest_of({"v": KEY_VERSION, "level": "seen", "step": step})


def tree_key(node: Node, inputs: Sequence[Sequence[str]]) -> Digest:
    """Under this key travels the result of an equal step on equal trees. An input is the key of its base and, bottom
    first, what the layers above it hold: content keys, or diff_ids with times normalised.
    """
    trees = [list(each) for each in inputs]
    return digest_of({"v": KEY_VERSION, "level": "tree", "step": definition(node.step), "inputs": trees})
