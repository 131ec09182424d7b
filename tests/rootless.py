"""How a test that runs as root becomes a plain user: the beginning of a script for `python -c`."""

ALONE = """
import os, stat, sys
from buildtool.runtime import syscalls as sc
sc.unshare(sc.CLONE_NEWNS)
sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
real = os.path.realpath(sys.executable)
if real.startswith("/root/"):
    top = "/root/" + real.split("/")[2]
    tree = sc.open_tree(top, True)
    sc.mount("tmpfs", "/root", "tmpfs", 0, "mode=755")
    os.mkdir(top)
    place = os.open(top, os.O_PATH)
    sc.move_mount(tree, place)
    os.close(place)
    os.close(tree)

def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
"""
"""A mount namespace of its own, and `become(uid)`. The interpreter may live in root's home: that is shown there, and
nothing else of it."""
