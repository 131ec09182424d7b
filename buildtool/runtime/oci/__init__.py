"""The runtime as an OCI runtime program: `buildtool-oci create|start|state|kill|delete|…`, for podman and others.

No daemon and no shim: the caller (conmon, containerd's shim) holds the streams and reaps.
"""
