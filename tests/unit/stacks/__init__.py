"""Loading stacks: files in, canonical models and errors out."""
