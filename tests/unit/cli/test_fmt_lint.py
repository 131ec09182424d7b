"""`fmt`, `lint` and `build --check|--call`: files in, text and exit codes out, no daemon."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from buildtool.cli import main
from buildtool.cli.buildfiles import find_files

MESSY = "from a  as  b\nCMD node x\n"
FORMATTED = "FROM a AS b\nCMD node x\n"
CLEAN = 'FROM a AS b\nCMD ["node", "x"]\n'


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDTOOL_HOST", f"unix://{tmp_path}/no-daemon.sock")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.run(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Stdin:
        buffer = io.BytesIO(text.encode())

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Stdin)


class TestFmt:
    def test_rewrites_files_and_names_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text(MESSY)
        os.chmod("Dockerfile", 0o640)
        assert run(capsys, "fmt") == (0, "Dockerfile\n", "")
        assert Path("Dockerfile").read_text() == FORMATTED
        assert os.stat("Dockerfile").st_mode & 0o777 == 0o640
        assert run(capsys, "fmt") == (0, "", "")

    def test_check_changes_nothing_and_ends_with_1(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Buildfile").write_text(MESSY)
        assert run(capsys, "fmt", "--check", "Buildfile") == (1, "Buildfile\n", "")
        assert Path("Buildfile").read_text() == MESSY
        Path("Buildfile").write_text(FORMATTED)
        assert run(capsys, "fmt", "--check", "Buildfile") == (0, "", "")

    @pytest.mark.parametrize("text", [MESSY, MESSY.rstrip("\n"), MESSY.replace("\n", "\r\n")])
    def test_diff_is_one_that_patch_takes(self, capsys: pytest.CaptureFixture[str], text: str) -> None:
        Path("Buildfile").write_bytes(text.encode())
        code, diff, _ = run(capsys, "fmt", "--diff")
        assert code == 0 and Path("Buildfile").read_bytes() == text.encode()
        subprocess.run(["git", "apply", "-"], input=diff.encode(), check=True)
        patched = Path("Buildfile").read_bytes()
        assert run(capsys, "fmt", "--diff", "--check") == (0, "", "")
        assert patched.replace(b"\r", b"").decode() == FORMATTED

    def test_stdin_goes_to_stdout(
        self, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        give(monkeypatch, MESSY)
        assert main.run(["fmt", "-"]) == 0
        assert capfdbinary.readouterr().out == FORMATTED.encode()

    def test_a_bad_file_does_not_keep_the_others_from_being_formatted(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("a.Dockerfile").write_text("FROM a\nRNU x\n")
        Path("b.Dockerfile").write_text(MESSY)
        Path("c.Dockerfile").write_bytes(b"FROM a\nRUN \xff\n")
        code, out, err = run(capsys, "fmt")
        assert (code, out) == (2, "b.Dockerfile\n")
        assert "a.Dockerfile:2:1: unknown instruction 'RNU'" in err and "did you mean RUN?" in err
        assert "c.Dockerfile:2: the file is not UTF-8 text" in err

    def test_a_link_stays_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("real").write_text(MESSY)
        os.symlink("real", "Dockerfile")
        assert run(capsys, "fmt", "Dockerfile")[0] == 0
        assert os.path.islink("Dockerfile") and Path("real").read_text() == FORMATTED


class TestFiles:
    def test_directories_are_searched(self) -> None:
        for name in (
            "Buildfile", "web/Dockerfile", "web/Dockerfile.dev", "web/api.Dockerfile", "web/Dockerfile.dockerignore",
            "web/Dockerfile.md.txt", ".git/Dockerfile", "web/dockerfile.py", "docs/x.md",
        ):  # fmt: skip
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("FROM a\n")
        found = [
            "Buildfile", "web/Dockerfile", "web/Dockerfile.dev", "web/Dockerfile.md.txt", "web/api.Dockerfile"
        ]  # fmt: skip
        assert find_files([]) == found
        assert find_files(["web/Dockerfile", "web"])[0] == "web/Dockerfile"

    def test_a_path_that_is_not_there_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "lint", "none") == (1, "", "buildtool: none: no such file or directory\n")
        assert run(capsys, "fmt", ".") == (1, "", "buildtool: no Buildfile or Dockerfile in '.'\n")


class TestLint:
    def test_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM a as b\nUSER $x\n")
        code, out, err = run(capsys, "lint")
        assert code == 1
        assert out == (
            "Dockerfile:1:1: FromAsCasing: 'as' and 'FROM' keywords' casing do not match\n"
            "  1 | FROM a as b\n"
            "    | ^^^^^^^^^^^\n"
        )
        assert err == "1 warning; 1 of rules that --fix can mend\n"

    def test_nothing_found(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text(CLEAN)
        assert run(capsys, "lint") == (0, "", "")

    def test_fix(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text(MESSY + "WORKDIR x\n")
        code, out, err = run(capsys, "lint", "--fix")
        assert code == 1 and "WorkdirRelativePath" in out
        assert err.startswith(
            "Dockerfile: 3 fixed (ConsistentInstructionCasing, FromAsCasing, JSONArgsRecommended)\n"
        )
        assert Path("Dockerfile").read_text() == "FROM a  AS  b\n" + CLEAN.split("\n")[1] + "\nWORKDIR x\n"

    def test_a_file_that_does_not_parse(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM a\nCOPY x\n")
        code, out, err = run(capsys, "lint", "--fix")
        assert (code, out) == (2, "") and "Dockerfile:2:6: COPY: at least two arguments" in err

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM a as b\n")
        Path("Buildfile").write_text("RUN x\n")
        code, out, _ = run(capsys, "lint", "--format", "json")
        bad, warned = json.loads(out)
        assert code == 2
        assert bad["file"] == "Buildfile" and bad["error"]["line"] == 1 and bad["warnings"] == []
        (warning,) = warned["warnings"]
        assert warned["error"] is None
        assert warning == {
            "rule": "FromAsCasing", "message": "'as' and 'FROM' keywords' casing do not match", "line": 1,
            "column": 1,
            "length": 11, "fixable": True, "url": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        }  # fmt: skip

    def test_sarif(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("my app").mkdir()
        Path("my app/Dockerfile").write_text("FROM a as b\n")
        code, out, _ = run(capsys, "lint", "--format=sarif")
        assert code == 1
        (sarif_run,) = json.loads(out)["runs"]
        (result,) = sarif_run["results"]
        assert sarif_run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "FromAsCasing"
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "my%20app/Dockerfile"}
        assert place["region"]["startLine"] == 1 and place["region"]["endColumn"] == 12

    def test_an_unknown_format_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "lint", "--format", "xml")[0] == 125

    def test_the_ignore_file_counts_where_the_check_is_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("web").mkdir()
        Path("web/.dockerignore").write_text("secret\n")
        Path("web/Dockerfile").write_text("# check=experimental=CopyIgnoredFile\nFROM a\nCOPY secret /\n")
        code, out, _ = run(capsys, "lint", "web")
        assert code == 1 and "web/Dockerfile:3:6: CopyIgnoredFile" in out

    def test_stdin(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        give(monkeypatch, "FROM a as b")
        code, out, _ = run(capsys, "lint", "-")
        assert code == 1 and out.startswith("<stdin>:1:1: FromAsCasing")


class TestBuildCheck:
    def test_no_warnings(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text(CLEAN)
        assert run(capsys, "build", "--check", ".") == (0, "Check complete, no warnings found.\n", "")

    def test_warnings_look_as_dockers_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM a\nRUN b\nRUN c\nEXPOSE 1\nRUN d\nEXPOSE 3000\nCMD node server.js\n")
        code, out, _ = run(capsys, "build", "--call=check", ".")
        assert code == 1
        assert out == (
            "Check complete, 1 warning has been found!\n\n"
            "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
            "Dockerfile:7\n"
            "--------------------\n"
            "   5 |     RUN d\n"
            "   6 |     EXPOSE 3000\n"
            "   7 | >>> CMD node server.js\n"
            "   8 |     \n"
            "--------------------\n"
        )
        assert run(capsys, "build", "--call=check,ignorestatus", ".")[0] == 0

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = "FROM a\nENV a \\\n  b\n"
        Path("Dockerfile").write_text(text)
        code, out, _ = run(capsys, "build", "--call=check,format=json", ".")
        document = json.loads(out)
        (warning,) = document["warnings"]
        assert code == 1 and warning["ruleName"] == "LegacyKeyValueFormat"
        assert [each["start"]["line"] for each in warning["location"]["ranges"]] == [2, 3]
        assert document["sources"][0]["filename"] == "Dockerfile"
        assert base64.b64decode(document["sources"][0]["data"]).decode() == text

    def test_an_error_is_told_with_the_warnings(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM a as b\nENV ${X:?give-X}=1\n")
        code, out, err = run(capsys, "build", "--check", ".")
        assert code == 1 and "WARNING: FromAsCasing" in out
        assert err.startswith("ERROR: Dockerfile:2:5: failed to process '${X:?give-X}': X: give-X")
        code, out, err = run(capsys, "build", "--call=check,format=json", ".")
        assert json.loads(out)["buildError"]["location"]["ranges"][0]["start"] == {"line": 2}

    def test_build_args_target_and_override(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("FROM scratch AS a\nARG V\nUSER $V$W\nFROM scratch AS b\nCMD x\n")
        code, out, _ = run(capsys, "build", "--check", "--target", "b", ".")
        assert code == 1 and "UndefinedVar" not in out and "JSONArgsRecommended" in out
        code, out, _ = run(capsys, "build", "--check", ".")
        assert "Usage of undefined variable '$W'" in out and "'$V'" not in out
        override = "BUILDKIT_DOCKERFILE_CHECK=skip=all"
        assert run(capsys, "build", "--check", "--build-arg", override, ".")[0] == 0
        code, _, err = run(capsys, "build", "--check", "--target", "c", ".")
        assert code == 1 and "target stage 'c' could not be found" in err


class TestBuildCall:
    def test_targets(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text("# base has all\nFROM a AS base\nFROM base AS test\nFROM base\n")
        code, out, _ = run(capsys, "build", "--call", "targets", ".")
        assert code == 0
        assert out == "TARGET    DESCRIPTION\nbase      has all\ntest      \n(default) \n"
        document = json.loads(run(capsys, "build", "--call", "targets,format=json", ".")[1])
        assert [target.get("name") for target in document["targets"]] == ["base", "test", None]
        assert document["targets"][2]["default"] is True and document["targets"][1]["base"] == "base"

    def test_outline(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Dockerfile").write_text(
            "# V is the version\nARG V=3 W=${V}1\nARG UNUSED\nFROM a:$W AS x\n# MODE is how\nARG MODE=fast\n"
            "RUN --mount=type=secret,id=key,required --mount=type=ssh b\nFROM x\nARG V\n"
        )
        code, out, _ = run(capsys, "build", "--call=outline", "--build-arg", "MODE=slow", ".")
        assert code == 0
        assert out == (
            "BUILD ARG   VALUE   DESCRIPTION\n"
            "V           3       is the version\n"
            "W           31      \n"
            "MODE        slow    is how\n\n"
            "SECRET   REQUIRED\n"
            "key      true\n\n"
            "SSH       REQUIRED\n"
            "default   \n\n"
        )
        document = json.loads(run(capsys, "build", "--call=outline,format=json", "--target=x", ".")[1])
        assert document["name"] == "x"
        assert [arg["name"] for arg in document["args"]] == ["V", "W", "MODE"]
        assert document["secrets"][0]["required"] is True and "required" not in document["ssh"][0]

    @pytest.mark.parametrize(
        "words", [["--call=nothing"], ["--call=check,format=xml"], ["--check", "--call=targets"]]
    )
    def test_calls_that_do_not_exist(self, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
        Path("Dockerfile").write_text(CLEAN)
        assert run(capsys, "build", *words, ".")[0] == 125

    def test_a_buildfile_on_stdin(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        give(monkeypatch, "FROM a AS x\n")
        assert run(capsys, "build", "--call=targets", "-")[1] == "TARGET      DESCRIPTION\nx (default) \n"


class TestPreprocessing:
    def test_lint_tells_of_included_files_and_templates(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("parts").mkdir()
        Path("parts/more").write_text("ENV x=1\nMAINTAINER {{ who }}\n")
        Path("parts/last.j2").write_text("MAINTAINER {{ who }}{{ n }}\n")
        Path("Dockerfile").write_text("FROM a\nINCLUDE parts/more\nINCLUDE parts/last.j2\n")
        Path("vars.yml").write_text("who: x\nn: 1\n")
        code, out, err = run(capsys, "lint", "--var-file", "vars.yml", "--var", "n=2")
        assert (code, out.count("MaintainerDeprecated")) == (1, 2)
        assert "parts/more:2:1: " in out and "parts/last.j2:1:1: " in out and "  1 | MAINTAINER x2\n" in out
        code, out, err = run(capsys, "lint")
        assert code == 2 and "parts/last.j2:1:1: template: 'who' is undefined" in err

    def test_fmt_and_fix_leave_templates_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = "# template=jinja2\nfrom a AS {{ x }}\n"
        Path("Dockerfile").write_text(text)
        assert run(capsys, "fmt")[0] == 2
        assert run(capsys, "lint", "--fix", "--var", "x=b")[0] == 1
        assert Path("Dockerfile").read_text() == text

    def test_build_args_are_variables_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("Buildfile.j2").write_text("FROM a AS {{ name }}\n")
        words = ["build", "--call=targets", "-f", "Buildfile.j2", "--build-arg", "name=x", "."]
        assert run(capsys, *words)[1].endswith("x (default) \n")
        assert run(capsys, *words, "--var", "name=y")[1].endswith("y (default) \n")

    def test_check_shows_where_it_was_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("more").write_text("\nMAINTAINER x\n")
        Path("Dockerfile").write_text("FROM a\nINCLUDE more\n")
        code, out, _ = run(capsys, "build", "--check", ".")
        assert code == 1 and "label\nmore:2\n  2 | MAINTAINER x\n" in out

    @pytest.mark.parametrize(
        ("text", "message"), [("- a", "has to be a mapping"), ("a: [", "--var-file v.yml: "), ("1: x", "a mapping")]
    )
    def test_bad_variable_files(self, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
        Path("v.yml").write_text(text)
        code, _, err = run(capsys, "lint", "--var-file", "v.yml")
        assert code == 1 and message in err

    def test_bad_variables(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "lint", "--var", "x")[0] == 1
        assert "no such file" in run(capsys, "lint", "--var-file", "none")[2]

    def test_includes_from_http(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "web").mkdir()
        (tmp_path / "web" / "one").write_text("INCLUDE two\n")
        (tmp_path / "web" / "two").write_text("MAINTAINER x\n")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                url = f"http://127.0.0.1:{server.server_port}"
                Path("Dockerfile").write_text(f"FROM a\nINCLUDE {url}/one\n")
                code, out, _ = run(capsys, "lint", "Dockerfile")
                assert code == 1 and f"{url}/two:1:1: MaintainerDeprecated" in out
                Path("Dockerfile").write_text(f"FROM a\nINCLUDE {url}/none\n")
                code, _, err = run(capsys, "lint", "Dockerfile")
                assert code == 2 and "Dockerfile:2:9: INCLUDE: " in err and "404" in err
            finally:
                server.shutdown()
                thread.join()
