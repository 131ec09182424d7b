"""The Engine API as a caller sees it: a small synchronous client on raw sockets."""
