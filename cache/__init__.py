"""The store: blobs, layers, snapshots, action records, leases."""
