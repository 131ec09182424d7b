"""Images by reference and id: configs, manifests, save, load, import, bootstrap."""
