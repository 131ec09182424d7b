"""Container lifecycle service: create, start, attach, exec, logs, wait, remove."""
