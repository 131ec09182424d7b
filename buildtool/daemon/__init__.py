"""The Docker Engine API over HTTP: JSON in, service call, JSON out."""
