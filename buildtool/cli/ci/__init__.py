"""Builds in the CI of others: what the CI says of itself, what an image is called there, what the job page shows."""
