"""Bad input gets a clear message with place and remedy, the right exit code, and leaves the store intact."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Cli = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def store_stays_valid(cli: Cli) -> Iterator[None]:
    """Whatever a test does, `system check` finds nothing afterwards."""
    yield
    cli("system", "check")


def build(
    cli: Cli, folder: Path, text: str, *flags: str, files: dict[str, str] | None = None
) -> CompletedProcess[str]:
    (folder / "Buildfile").write_text(text)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return cli("build", "--progress", "plain", *flags, str(folder), check=False)


def test_unknown_instruction_is_shown_with_its_place_and_a_suggestion(cli: Cli, tmp_path: Path) -> None:
    done = build(cli, tmp_path, "FROM scratch\nCOPPY a /a\n")
    assert done.returncode == 1
    assert "Buildfile:2:1:" in done.stderr
    assert "  2 | COPPY a /a\n    | ^^^^^" in done.stderr
    assert "COPY" in done.stderr.replace("COPPY", "")


def test_missing_copy_source_names_the_file_and_the_nearest_one(cli: Cli, tmp_path: Path) -> None:
    done = build(cli, tmp_path, "FROM scratch\nCOPY srv/app.py /app/\n", files={"src/app.py": "x"})
    assert done.returncode == 1
    assert "Buildfile:2:6:" in done.stderr
    assert 'did you mean "src/app.py"' in done.stderr


def test_ignored_copy_source_says_that_it_is_ignored(cli: Cli, tmp_path: Path) -> None:
    files = {"secret.txt": "x", ".dockerignore": "*.txt\n"}
    done = build(cli, tmp_path, "FROM scratch\nCOPY secret.txt /\n", files=files)
    assert done.returncode == 1
    assert "ignore file" in done.stderr
    assert "!secret.txt" in done.stderr


def test_failing_run_shows_its_line_output_and_code(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    done = build(cli, tmp_path, f"FROM {busybox_image}\nRUN echo to-the-log; exit 7\n")
    assert done.returncode == 1
    assert "Buildfile:2:" in done.stderr
    assert "to-the-log" in done.stderr
    assert "exit code: 7" in done.stderr or "code 7" in done.stderr


def test_killed_run_names_the_signal(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    done = build(cli, tmp_path, f"FROM {busybox_image}\nRUN sh -c 'kill -9 $$'; exit $?\n")
    assert done.returncode == 1
    assert "137" in done.stderr or "SIGKILL" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="memory limits need cgroups that this user may write")
def test_run_out_of_memory_is_called_by_name(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    hungry = "RUN x=x; while true; do x=$x$x; done\n"
    done = build(cli, tmp_path, f"FROM {busybox_image}\n{hungry}", "--memory", "32m")
    assert done.returncode == 1
    assert "memory" in done.stderr.lower()


def test_unknown_base_image_is_refused_at_its_place(cli: Cli, tmp_path: Path) -> None:
    done = build(cli, tmp_path, "FROM no-such-image:1\n")
    assert done.returncode == 1
    assert "Buildfile:1:6:" in done.stderr
    assert "no-such-image:1" in done.stderr
    assert "bootstrap" in done.stderr


def test_unknown_stage_is_refused_with_a_suggestion(cli: Cli, tmp_path: Path) -> None:
    done = build(cli, tmp_path, "FROM scratch AS compile\nFROM scratch\nCOPY --from=complie /a /a\n")
    assert done.returncode == 1
    assert "Buildfile:3:" in done.stderr
    assert "compile" in done.stderr


def test_missing_buildfile_and_missing_context_are_told_apart(cli: Cli, tmp_path: Path) -> None:
    nothing = cli("build", str(tmp_path), check=False)
    assert nothing.returncode == 1
    assert "Buildfile" in nothing.stderr
    nowhere = cli("build", str(tmp_path / "absent"), check=False)
    assert nowhere.returncode == 1
    assert "absent" in nowhere.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--no-such-flag", "busybox"], 125, "--no-such-flag"),
        (["frobnicate"], 1, "frobnicate"),
        (["run"], 1, "requires at least 1 argument"),
        (["ps", "--fromat", "x"], 125, "--fromat"),
        (["run", "--memory", "lots", "busybox"], 125, "lots"),
    ],
)
def test_wrong_flags_are_named(cli: Cli, arguments: list[str], code: int, says: str) -> None:
    done = cli(*arguments, check=False)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["no-such-command"], 127, "executable file not found in $PATH"),
        (["/etc/passwd"], 126, "permission denied"),
        (["sh", "-c", "exit 42"], 42, ""),
        (["sh", "-c", "sh -c 'kill -15 $$'; exit $?"], 143, ""),
    ],
)
def test_run_ends_with_dockers_exit_codes(
    cli: Cli, busybox_image: str, command: list[str], code: int, says: str
) -> None:
    done = cli("run", "--rm", "--network", "none", busybox_image, *command, check=False)
    assert done.returncode == code
    assert says in done.stderr


def test_unknown_image_is_125_and_tells_what_to_do(cli: Cli) -> None:
    done = cli("run", "--rm", "no-such-image", check=False)
    assert done.returncode == 125
    assert "no-such-image" in done.stderr


def test_unknown_container_is_an_error(cli: Cli) -> None:
    done = cli("logs", "no-such-container", check=False)
    assert (done.returncode, "No such container: no-such-container" in done.stderr) == (1, True)


def test_garbage_archive_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "garbage.tar").write_bytes(os.urandom(20_000))
    done = cli("load", "-i", str(tmp_path / "garbage.tar"), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_truncated_archive_is_refused(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    cli("save", "-o", str(archive), busybox_image)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    done = cli("load", "-i", str(archive), check=False)
    assert done.returncode == 1
    assert done.stderr.strip()


@pytest.mark.parametrize("name", ["../../escape", "/abs/../../escape", "link/escape"])
def test_hostile_layer_never_leaves_its_snapshot(cli: Cli, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    cli("import", str(archive), "hostile:latest", check=False)
    assert list(outside.iterdir()) == []
    assert not any((base / "escape").exists() for base in [tmp_path, *tmp_path.parents])


def test_unreachable_daemon_tells_what_to_do(cli: Cli, tmp_path: Path) -> None:
    done = cli("-H", f"unix://{tmp_path}/nothing.sock", "ps", check=False, autostart=False)
    assert done.returncode == 1
    assert "nothing.sock" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a directory of another user takes root to make")
def test_socket_of_another_user_says_permission_denied(cli: Cli, tmp_path: Path) -> None:
    """Root without its DAC capabilities meets the socket that another user owns, as any user would."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    os.chown(private, 65534, 65534)
    program = cli.program  # type: ignore[attr-defined]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--",
         program, "-H", f"unix://{private}/buildtool.sock", "ps"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "permission denied" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_load_of_an_image_whose_config_lies_is_refused(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    """The manifest is intact, a layer's bytes are not those that the config names."""
    archive = tmp_path / "image.tar"
    cli("save", "-o", str(archive), busybox_image)
    forged = tmp_path / "forged.tar"
    with tarfile.open(archive) as tar, tarfile.open(forged, "w") as out:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        layer = manifest[0]["Layers"][0]
        for member in tar.getmembers():
            content = tar.extractfile(member)
            data = content.read() if content else b""
            if member.name == layer:
                data = data[:-2000] + b"\1" + data[-1999:]
            out.addfile(member, io.BytesIO(data))
    done = cli("load", "-i", str(forged), check=False)
    assert done.returncode == 1
    assert "digest" in done.stderr or "diff_id" in done.stderr


def test_violated_checks_end_the_build_where_the_file_says_so(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    text = f"# check=error=true\nFROM {busybox_image}\nMAINTAINER me\n"
    done = build(cli, tmp_path, text)
    assert done.returncode == 1
    assert "Buildfile:3:" in done.stderr
    assert "MaintainerDeprecated" in done.stderr

    assert build(cli, tmp_path, text, "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all").returncode == 0


def test_name_that_expands_to_nothing_is_refused_at_its_place(cli: Cli, tmp_path: Path) -> None:
    done = build(cli, tmp_path, "FROM scratch\nENV $missing=1\n")
    assert done.returncode == 1
    assert "Buildfile:2:5:" in done.stderr
