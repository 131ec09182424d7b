"""What the commands do: one small module a subject, imported when its command is called."""
