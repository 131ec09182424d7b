"""Commands that run a registry."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag

COMMANDS = {
    "registry serve": Command(
        "registry_serve:serve",
        "[OPTIONS]",
        "Serve images to others: the OCI distribution API",
        (
            Flag("addr", "", "string", "Where to listen (HOST:PORT)", default="127.0.0.1:5000"),
            Flag("anonymous-pull", "", "bool", "With --htpasswd: pulling needs no login"),
            Flag("gc-grace", "", "string", "Keep blobs without a manifest for so many seconds", default="86400"),
            Flag("htpasswd", "", "string", "Users and their bcrypt hashes; without this file anybody may push"),
            Flag("log-level", "", "string", "debug|info|warn|error", default="info"),
            Flag("no-delete", "", "bool", "Refuse to delete manifests and blobs"),
            Flag("root", "", "string", "Folder of the registry (default: beside the daemon's data root)"),
            Flag("share-store", "", "bool", "Publish the daemon's images, read-only, without a copy"),
            Flag("tls-cert", "", "string", "Certificate chain (PEM)"),
            Flag("tls-key", "", "string", "Private key (PEM)"),
            Flag("upload-timeout", "", "string", "End uploads that nobody goes on with (seconds)", default="3600"),
        ),
        maximum=0,
    ),
}
