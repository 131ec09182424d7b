"""One container: OCI runtime bundle to processes (spawner, shim, namespaces, cgroups)."""
