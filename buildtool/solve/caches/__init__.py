"""The build cache that travels: results of steps, taken from and given to a registry, a directory or an image.

A record says what a step's key resulted in: a layer, by the digests of its content and of its blob. Records are small
documents of their own, one a key, so that machines that write at the same time lose nothing; besides, a bundle holds
the newest of them, so that one request mostly answers for a whole build.
"""
