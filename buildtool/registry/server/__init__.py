"""The registry server: OCI distribution API 1.1 over a store of our own layout."""
