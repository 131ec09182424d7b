"""Commands that run a registry, and those about manifests."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag

_ROOT = Flag("root", "", "string", "Folder of the registry (default: beside the daemon's data root)")
_INSECURE = Flag("insecure", "", "bool", "Also without TLS, or with a certificate that nobody vouches for")

COMMANDS = {
    "registry serve": Command(
        "registry_serve:serve",
        "[OPTIONS]",
        "Serve images to others: the OCI distribution API",
        (
            Flag("addr", "", "string", "Where to listen (HOST:PORT)", default="127.0.0.1:5000"),
            Flag("anonymous-pull", "", "bool", "With --htpasswd: pulling needs no login"),
            Flag("audit-log", "", "string", "File for who did what, one JSON object a line"),
            Flag("auth", "", "string", "How clients log in: basic|token (default: by the rules)"),
            Flag(
                "bucket",
                "",
                "string",
                "Keep everything there, with other servers (s3://BUCKET[/PREFIX], file:///FOLDER)",
            ),
            Flag("bucket-option", "", "list", "endpoint, region, redirect=false … (KEY=VALUE)"),
            Flag("drain-delay", "", "string", "Serve on so long after SIGTERM, not ready (seconds)"),
            Flag("drain-timeout", "", "string", "Let running requests end for so long (seconds)", default="30"),
            Flag("external-url", "", "string", "How clients reach this server, behind a proxy"),
            Flag("gc-grace", "", "string", "Keep blobs without a manifest for so many seconds", default="86400"),
            Flag("gc-untagged", "", "string", "Delete manifests that no tag leads to after so many seconds"),
            Flag("htpasswd", "", "string", "Users and their bcrypt hashes; without this file anybody may push"),
            Flag("immutable-tags", "", "list", "Tags that stay what they are (pattern)"),
            Flag("log-level", "", "string", "debug|info|warn|error", default="info"),
            Flag("max-blob", "", "string", "Refuse larger blobs", default="1t"),
            Flag("metrics", "", "string", "Serve figures for Prometheus there (HOST:PORT)"),
            Flag("mirror", "", "list", "Cache another registry's repositories ([PREFIX=]HOST)"),
            Flag("mirror-keep", "", "string", "Delete mirrored images that nobody pulls for so many seconds"),
            Flag("mirror-login", "", "string", "config.json with the logins for mirrored registries"),
            Flag("mirror-ttl", "", "string", "Ask for a mirrored tag again after so many seconds", default="300"),
            Flag("no-delete", "", "bool", "Refuse to delete manifests and blobs"),
            Flag("no-pages", "", "bool", "No web pages"),
            Flag("rate-limit", "", "string", "Requests a second of one user or address"),
            Flag("root", "", "string", "Folder of the registry (default: beside the daemon's data root)"),
            Flag("rules", "", "string", "Who may do what with which repositories (YAML)"),
            Flag("service", "", "string", "Audience of the tokens this server signs", default="buildtool-registry"),
            Flag("share-store", "", "bool", "Publish the daemon's images, read-only, without a copy"),
            Flag("tls-cert", "", "string", "Certificate chain (PEM), read again when it changes"),
            Flag("tls-client-ca", "", "string", "Clients need a certificate of these CAs (PEM)"),
            Flag("tls-key", "", "string", "Private key (PEM)"),
            Flag("upload-timeout", "", "string", "End uploads that nobody goes on with (seconds)", default="3600"),
        ),
        maximum=0,
    ),
    "registry token": Command(
        "registry_tools:token",
        "[OPTIONS]",
        "Sign a token for a registry on this machine and print it",
        (
            Flag("expires", "", "string", "How long it is valid (90m, 12h, 30d)", default="12h"),
            _ROOT,
            Flag("scope", "", "list", "What it allows (repository:NAME|PATTERN:pull,push,delete)"),
            Flag("service", "", "string", "The server's --service", default="buildtool-registry"),
            Flag("user", "", "string", "Whom it is for: the name in logs"),
        ),
        maximum=0,
    ),
    "registry verify": Command(
        "registry_tools:verify",
        "[OPTIONS]",
        "Hash and follow everything a registry keeps, also while it serves",
        (
            Flag("bucket", "", "string", "Look into a bucket (s3://BUCKET[/PREFIX], file:///FOLDER)"),
            Flag("bucket-option", "", "list", "endpoint, region … (KEY=VALUE)"),
            Flag("format", "", "string", "json: a document for programs", choices=("", "json")),
            Flag("quarantine", "", "bool", "Move damaged blobs aside, so that they can be pushed again"),
            _ROOT,
        ),
        maximum=0,
    ),
    "registry passwd": Command(
        "registry_tools:passwd",
        "[OPTIONS] FILE USER",
        "Set a user's password in an htpasswd file (from STDIN or the terminal)",
        (Flag("delete", "D", "bool", "Remove the user"),),
        minimum=2,
        maximum=2,
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
