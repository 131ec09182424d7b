"""`.dockerignore` and Go's globs: section 1.5."""

from __future__ import annotations

import pytest

from buildtool.buildfile import IgnoreRules, go_match, match_glob
from buildtool.errors import InvalidInput


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("**", "file", True),
        ("**/", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("dir/**", "dir", False),
        ("**/dir", "dir", True),
        ("**/dir", "dir/file", True),
        ("**/dir", "a/b/dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True),
        ("**file", "dir/file", True),
        ("**file", "dir/myfile", True),
        ("**/file", "dir/myfile", False),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("a**/*.txt", "a/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "aae", False),
        ("a[^b-d]e", "aze", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abcZdef", True),
        ("abc?def", "abc/def", False),
        ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("dist/*.whl", "dist/p-2.4.0rc3.dev36+g08-py3.whl", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("*", "a/b", True),
        ("node_modules", "node_modules/x/y", True),
        ("node_modules", "sub/node_modules/x", False),
        ("/abs", "abs", True),
        ("./x", "x", True),
        ("x/", "x/y", True),
        ("a//b", "a/b", True),
        ("a/./b/../c", "a/c", True),
        ("../x", "x", False),
        (".", "x", False),
        ("[a-z]*", "README", False),
        ("é?", "éx", True),
    ],
)
def test_one_pattern(pattern: str, path: str, excluded: bool) -> None:
    rules = IgnoreRules.parse(pattern)
    assert rules.excludes(path) == excluded
    assert IgnoreRules.parse(f"**\n!{pattern}").excludes(path) != excluded or pattern in ("**", "**/", "**/**")


@pytest.mark.parametrize(
    ("lines", "path", "excluded"),
    [
        ("docs\n!docs/README.md", "docs/README.md", False),
        ("docs\n!docs/README.md", "docs/x", True),
        ("docs/*\n!docs/README.md", "docs/README.md", False),
        ("!x.go\n*.go", "x.go", True),
        ("*.go\n!x.go", "x.go", False),
        ("**\n!util/web", "util/web/foo", False),
        ("**\n!util/web\nutil/web/foo", "util/web/foo", True),
        ("*\n!/a\n", "a/b", False),
        ("*\n! a \n", "a", False),
        ("# x\n\n  a  \r\n", "a", True),
        (" # x", "# x", True),
        ("\ufeffa", "a", True),
        ("", "a", False),
        ("a\n!a/b\na", "a/b", False),
    ],
)
def test_the_last_match_wins(lines: str, path: str, excluded: bool) -> None:
    assert IgnoreRules.parse(lines).excludes(path) == excluded


def test_the_root_is_never_excluded() -> None:
    rules = IgnoreRules.parse("**\n.")
    assert not rules.excludes("") and not rules.excludes(".")


@pytest.mark.parametrize(
    ("lines", "directory", "walk"),
    [
        ("a", "a", False),
        ("a", "b", True),
        ("a\n!b", "a", False),
        ("a\n!a/b/c", "a", True),
        ("a\n!a/b/c", "a/b", True),
        ("a\n!a/b/c", "a/x", False),
        ("a\n!a/*/c", "a/x", True),
        ("*\n!**/x", "a", True),
        ("a\n!a", "a", True),
        ("**", "a", False),
    ],
)
def test_pruning(lines: str, directory: str, walk: bool) -> None:
    assert IgnoreRules.parse(lines).may_contain_included(directory) == walk


@pytest.mark.parametrize("line", ["!", "! ", "[", "a[", "[]a]", "[^", "a\\", "[x-]", "[z-a"])
def test_bad_patterns_have_a_place(line: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        IgnoreRules.parse(f"ok\n  {line}\n", "sub/.dockerignore")
    where = caught.value.where
    assert where and (where.file, where.line, where.column) == ("sub/.dockerignore", 2, 3)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[^c]", "abc", False),
        ("a\\*b", "a*b", True),
        ("a?b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[\\-x]", "a", False),
        ("[z-a]", "m", False),
        ("*x", "xxx", True),
        ("", "", True),
        ("**", "a/b", False),
    ],
)
def test_go_match(pattern: str, name: str, matches: bool) -> None:
    assert go_match(pattern, name) == matches


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[a\\"])
def test_malformed_patterns_raise_whatever_the_name(pattern: str) -> None:
    for name in ("a", "", "zzz"):
        with pytest.raises(ValueError, match="syntax error"):
            go_match(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/*.go", "x.go", True),
        ("**/*.go", "a/b/x.go", True),
        ("a/**", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a/**/c", "a/x/y/d", False),
        ("*.go", "a/x.go", False),
        ("**", "a", True),
    ],
)
def test_deep_globs(pattern: str, path: str, matches: bool) -> None:
    assert match_glob(pattern, path) == matches
    assert match_glob("*/b", "a/b", deep=False)
    assert not match_glob("**/b", "b", deep=False)
