"""`commit` and `export`: a container's files as an image, or as a tar archive."""

from __future__ import annotations

from buildtool.cli.archives import write_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def commit(call: Call) -> int:
    """Make an image of a container and print its id."""
    repository, tag = split_name(call.arguments[1]) if len(call.arguments) > 1 else ("", "")
    query = {
        "container": call.arguments[0],
        "repo": repository or None,
        "tag": tag or None,
        "comment": call.text("message") or None,
        "author": call.text("author") or None,
        "changes": call.texts("change"),
        "pause": "1" if call.switch("pause") else "0",
    }
    print(call.client.post("/commit", query, {})["Id"])
    return 0


def split_name(name: str) -> tuple[str, str]:
    """`host:5000/a/b:tag` as (`host:5000/a/b`, `tag`); the tag is "" when there is none."""
    head, colon, last = name.rpartition(":")
    return (head, last) if colon and "/" not in last else (name, "")


def export(call: Call) -> int:
    """Write a container's file system as a tar archive."""
    response = call.client.call("GET", f"/containers/{call.arguments[0]}/export")
    return write_stream(response, call.text("output"), "container")
