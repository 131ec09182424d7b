"""The Buildfile language: text to typed instructions with source spans. Pure."""
