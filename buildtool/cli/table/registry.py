"""Commands that run a registry, and those about manifests."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag

_INSECURE = Flag("insecure", "", "bool", "Also without TLS, or with a certificate that nobody vouches for")

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
    "manifest inspect": Command(
        "manifests:inspect",
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Show a manifest or manifest list, of a registry or one being made here",
        (
            _INSECURE,
            Flag("verbose", "v", "bool", "Show descriptors and platforms, too"),
        ),
        minimum=1,
        maximum=2,
    ),
    "manifest create": Command(
        "manifests:create",
        "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Begin a manifest list here, of images in registries",
        (Flag("amend", "a", "bool", "Add to a list that has been begun"), _INSECURE),
        minimum=2,
    ),
    "manifest annotate": Command(
        "manifests:annotate",
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Say for which platform a manifest of a list is",
        (
            Flag("arch", "", "string", "Architecture"),
            Flag("os", "", "string", "Operating system"),
            Flag("os-features", "", "list", "Features of the operating system"),
            Flag("os-version", "", "string", "Version of the operating system"),
            Flag("variant", "", "string", "Variant of the architecture"),
        ),
        minimum=2,
        maximum=2,
    ),
    "manifest push": Command(
        "manifests:push",
        "[OPTIONS] MANIFEST_LIST",
        "Upload a manifest list that was made here",
        (_INSECURE, Flag("purge", "p", "bool", "Forget the list here after pushing it")),
        minimum=1,
        maximum=1,
    ),
    "manifest rm": Command(
        "manifests:rm", "MANIFEST_LIST [MANIFEST_LIST...]", "Forget manifest lists that were made here", minimum=1
    ),
}
