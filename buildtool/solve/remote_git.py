"""Git repositories, by the `git` binary: the commit a ref means, fetched shallow, checked out into a snapshot.

For each repository a bare one of ours below `<root>/git` keeps what was fetched. Nothing of the machine's own git
configuration counts, git never asks anything, and only http(s), ssh and git are spoken.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from buildtool.aio import offload
from buildtool.buildfile.remotes import without_secrets
from buildtool.cache import Draft, FullDisk, Lease, Store
from buildtool.graph import Remote, digest_of
from buildtool.oci import Digest
from buildtool.solve.remotes import Access, Fetched, FetchFailed, Tell, known, remember
from buildtool.solve.run_agent import AgentSocket
from buildtool.solve.threads import to_end

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PROTOCOLS = "http:https:ssh:git"
_SECONDS = 1800.0


async def fetch_git(store: Store, step: Remote, access: Access, lease: Lease, tell: Tell) -> Fetched:
    """The files of a commit: times are the commit's, modes 644 and 755. Raises FetchFailed."""
    if shutil.which("git") is None:
        raise FetchFailed(f"{without_secrets(step.url)}: there is no git here", hint="install git for the daemon")
    async with _agent(access) as agent:
        git = _Git(step, access, store.root / "git", agent)
        return await _fetch(git, store, lease, tell)


@asynccontextmanager
async def _agent(access: Access) -> AsyncIterator[dict[str, str]]:
    """The build's ssh agent, as an environment that names its socket."""
    dial = access.agents.get("default")
    if dial is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="git-agent-") as directory:
        socket = AgentSocket(Path(directory) / "agent", dial)
        try:
            async with socket:
                yield {"SSH_AUTH_SOCK": str(socket.path)}
        finally:
            socket.close()


async def _fetch(git: _Git, store: Store, lease: Lease, tell: Tell) -> Fetched:
    step = git.step
    commit, ref = await git.resolve()
    if step.checksum and not commit.startswith(step.checksum):
        raise FetchFailed(
            f"{git.shown}: the checksum does not match: expected the commit {step.checksum}, got {commit}",
            hint="the ref moved, or the checksum is another commit's",
        )
    flags = f"{':.git' if step.keep_git_dir else ''}{'' if step.submodules else ':alone'}"
    content = f"git:{commit}:{step.subdir}{flags}"
    key = digest_of({"remote": "git", "url": step.url, "content": content})
    before = known(store, key, lease)
    if before is not None:
        return before[0]
    tell(f"fetching {git.shown} at {commit[:12]}")
    with store.snapshots.prepare() as draft, FullDisk(draft.directory):
        await git.fetch(commit, ref)
        epoch = await git.check_out(commit, draft)
        snapshot = await to_end(draft.commit)
    lease.snapshot(snapshot)
    return await offload(_noted, store, key, Fetched(content, snapshot, epoch))


def _noted(store: Store, key: Digest, fetched: Fetched) -> Fetched:
    remember(store, key, fetched, {})
    return fetched


class _Git:
    def __init__(self, step: Remote, access: Access, directory: Path, agent: dict[str, str]) -> None:
        self.step = step
        self.shown = without_secrets(step.url)
        self._directory = directory
        self._bare = directory / digest_of({"url": step.url})[7:39]
        self._environment = _environment(step.url, access, directory) | agent

    async def resolve(self) -> tuple[str, str]:
        """The commit, and the full name of the ref it has (the commit itself when the ref is one)."""
        ref = self.step.ref
        if _SHA.fullmatch(ref):
            return ref, ref
        wanted = [ref, f"{ref}^{{}}"] if ref else ["HEAD"]
        refs: dict[str, str] = {}
        for line in (await self._run("ls-remote", "--", self.step.url, *wanted)).splitlines():
            commit, _, name = line.partition("\t")
            refs[name] = commit
        names = [ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"] if ref else ["HEAD"]
        for name in names:
            if name in refs:
                return refs.get(f"{name}^{{}}", refs[name]), name
        raise FetchFailed(
            f"{self.shown}: the repository has no ref {ref or 'HEAD'!r}",
            hint="name a branch, a tag or a whole commit hash behind the #",
        )

    async def fetch(self, commit: str, ref: str) -> None:
        """Bring the commit into the bare repository: alone when the server can do that, else with everything."""
        bare = f"--git-dir={self._bare}"
        if (self._bare / "HEAD").exists():
            os.utime(self._bare)
        else:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            await self._run("init", "--quiet", "--bare", "--template=", str(self._bare))
        for lock in self._bare.rglob("*.lock"):  # of a git that was killed: nobody else works here
            await offload(lock.unlink, missing_ok=True)
        await self._run(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
        if await self._has(commit):
            return
        shallow = (bare, "fetch", "--quiet", "--force", "--no-tags", "--depth=1", "--", self.step.url)
        everything = "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
        try:
            await self._run(*shallow, ref if ref == commit else f"+{ref}:refs/fetched/{commit}")
        except FetchFailed:
            deepen = ("--unshallow",) if (self._bare / "shallow").exists() else ()
            await self._run(bare, "fetch", "--quiet", "--force", *deepen, "--", self.step.url, *everything)
        if not await self._has(commit):
            raise FetchFailed(f"{self.shown}: the repository does not give the commit {commit}")

    async def _has(self, commit: str) -> bool:
        try:
            await self._run(f"--git-dir={self._bare}", "cat-file", "-e", f"{commit}^{{commit}}")
        except FetchFailed:
            return False
        return True

    async def check_out(self, commit: str, draft: Draft) -> int:
        """Put the files into the draft and return the time of the commit."""
        step = self.step
        tree = draft.directory / "checkout"
        here = ("-C", str(tree))
        await self._run("init", "--quiet", "--template=", str(tree))
        await self._run(*here, "remote", "add", "origin", step.url)
        await self._run(*here, "fetch", "--quiet", "--no-tags", "--depth=1", str(self._bare), commit, local=True)
        await self._run(*here, "checkout", "--quiet", "--force", "--detach", commit)
        if step.submodules and (tree / ".gitmodules").exists():
            await self._run(*here, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
        epoch = int(await self._run(*here, "show", "-s", "--format=%ct", commit))
        await to_end(self._settle, tree, draft.fs, epoch)
        return epoch

    def _settle(self, tree: Path, target: Path, epoch: int) -> None:
        step = self.step
        if not step.keep_git_dir:
            for root, directories, files in os.walk(tree):
                if ".git" in directories:
                    directories.remove(".git")
                    shutil.rmtree(f"{root}/.git")
                if ".git" in files:
                    os.unlink(f"{root}/.git")  # noqa: PTH108
        source = tree
        for part in step.subdir.split("/") if step.subdir else ():
            source /= part
            if source.is_symlink() or not source.is_dir():
                raise FetchFailed(f"{self.shown}: there is no directory {step.subdir!r} in the repository")
        for root, directories, files in os.walk(source, topdown=False):
            for name in (*directories, *files):
                os.utime(f"{root}/{name}", (epoch, epoch), follow_symlinks=False)
        target.rmdir()
        source.rename(target)
        os.utime(target, (epoch, epoch))
        target.chmod(0o755)
        shutil.rmtree(tree, ignore_errors=True)

    async def _run(self, *args: str, local: bool = False) -> str:
        """Run git and return what it says. `local`: it may read a repository of this machine (ours)."""
        environment = dict(self._environment)
        if local:
            environment["GIT_ALLOW_PROTOCOL"] = "file"
        process = await asyncio.create_subprocess_exec(
            "git",
            "-c",
            "core.hooksPath=/dev/null",
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
            umask=0o022,
        )
        try:
            out, problem = await asyncio.wait_for(process.communicate(), _SECONDS)
        except TimeoutError:
            raise FetchFailed(f"{self.shown}: git does not end") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise self._failure(problem.decode(errors="replace"))
        return out.decode(errors="surrogateescape")

    def _failure(self, text: str) -> FetchFailed:
        lines = [line.strip() for line in text.replace(self.step.url, self.shown).splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(("hint:", "warning:"))]
        told = [line for line in lines if line.startswith("ssh:") or "Permission denied" in line]
        told += [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
        line = told[0] if told else ""
        words = (line or (lines[-1] if lines else "git failed")).removeprefix("fatal: ").removeprefix("error: ")
        hint = ""
        if "terminal prompts disabled" in text or "Authentication failed" in text or "could not read" in text:
            hint = "it needs credentials: give a token with --secret id=GIT_AUTH_TOKEN"
        elif "Permission denied" in text or "Host key verification failed" in text:
            hint = "ssh needs a key of an agent (--ssh default); for public repositories use the https URL"
        return FetchFailed(f"{self.shown}: {words}", hint=hint)


def _environment(url: str, access: Access, directory: Path) -> dict[str, str]:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
        f"-o UserKnownHostsFile={directory}/known_hosts",
    } | access.environment()
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in ("http", "https"):
        header = access.secret(f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER")
        token = access.secret(f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN")
        if token and not header:
            header = "basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
        if header:
            environment["GIT_CONFIG_COUNT"] = "1"
            environment["GIT_CONFIG_KEY_0"] = f"http.{parts.scheme}://{parts.netloc.rpartition('@')[2]}/.extraHeader"
            environment["GIT_CONFIG_VALUE_0"] = f"Authorization: {header}"
    return environment
