"""The same requests to a local dockerd and to our daemon, and what differs in their answers.

`python -m tests.compare` prints all differences, accepted ones with their reasons; test_compare.py fails for others.
"""
