import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.storage import AddressError
from airflow_provider_xcompliance.storage.globs import Glob, is_glob


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("/a/*.json", "/a/b.json", True),
        ("/a/*.json", "/a/.json", True),
        ("/a/*.json", "/a/b/c.json", False),
        ("/a/*.json", "/a/b.json.gz", False),
        ("/a/?.json", "/a/b.json", True),
        ("/a/?.json", "/a//.json", False),
        ("/a/[a-c]x", "/a/bx", True),
        ("/a/[a-c]x", "/a/dx", False),
        ("/a/[!a-c]x", "/a/dx", True),
        ("/a/[!a-c]x", "/a/bx", False),
        ("/a[!b]c", "/a/c", False),
        ("/a/[]]", "/a/]", True),
        ("/a/[^x]", "/a/^", True),
        ("/a/[[]*", "/a/[1]", True),
        ("/a/[*]", "/a/*", True),
        ("/a/[*]", "/a/b", False),
        ("/a/[b", "/a/[b", True),
        ("/a/*.[ab", "/a/x.[ab", True),
        ("/a/(b)+*", "/a/(b)+c", True),
        ("/a/**", "/a/b", True),
        ("/a/**", "/a/b/c/d", True),
        ("/a/**", "/ab", False),
        ("/a/", "/a/b/c", True),
        ("/a/**/c", "/a/c", True),
        ("/a/**/c", "/a/b/b/c", True),
        ("/a/**/c", "/a/bc", False),
        ("/a/[**]", "/a/*", True),
        ("/a/*/c/*", "/a/b/c/d", True),
        ("s3://bucket/a*", "s3://bucket/a\nb", True),
        ("s3://bucket/**/*.gz", "s3://bucket/a.gz", True),
        ("s3://bucket/a?b", "s3://bucket/a?b", True),
    ],
)
def test_a_pattern_means_what_shells_mean_by_it(pattern: str, name: str, matches: bool) -> None:
    assert Glob(pattern).matches(name) is matches


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("/a/**.json", "**/*.json"),
        ("/a/b**", "**/b*"),
        ("/a/b**/c", "**/b*"),
        ("/a/***", "**/*"),
        ("/a/**/**.gz", "**/*.gz"),
        ("s3://bucket/[ab]**?/", "**/[ab]*?"),
    ],
)
def test_two_stars_beside_other_text_are_refused_with_the_remedy(pattern: str, remedy: str) -> None:
    with pytest.raises(AddressError, match=f"; write {re.escape(remedy)} instead of "):
        Glob(pattern)


@pytest.mark.parametrize(
    ("name", "pattern_that_names_it"),
    [
        ("/a/_xcompliance/index/x", "/a/_xcompliance/**"),
        ("/a/b/_xcompliance/x", "/a/**/_xcompliance/*"),
        ("/a/x.gz.manifest.json", "/a/*.manifest.json"),
        ("/a/x.gz.upload.json", "/a/*.upload.json"),
        ("/a/.xcompliance-abc.part", "/a/.xcompliance-*"),
    ],
)
def test_what_is_our_own_is_meant_only_when_it_is_named(name: str, pattern_that_names_it: str) -> None:
    assert not Glob("/a/**").matches(name)
    assert Glob(pattern_that_names_it).matches(name)


@pytest.mark.parametrize(
    "name", ["/a/x_xcompliance/b", "/a/_xcompliance", "/a/manifest.json", "/a/x.manifest.json.gz", "/a/.b"]
)
def test_what_only_looks_like_our_own_is_meant(name: str) -> None:
    assert Glob("/a/**").matches(name)


@pytest.mark.parametrize(
    ("pattern", "folder", "may_hold"),
    [
        ("/a/*/x.json", "/a/b/", True),
        ("/a/*/x.json", "/a/b/c/", False),
        ("/a/2024-*/x.json", "/a/2023-01/", False),
        ("/a/2024-*/x.json", "/a/2024-01/", True),
        ("/a/*.json", "/a/b/", False),
        ("/a/*/**/x.json", "/a/b/c/d/", True),
        ("/a/b*/**/x.json", "/a/c/d/", False),
        ("/a/", "/a/b/c/", True),
        ("/a/**", "/a/_xcompliance/", False),
        ("/a/_xcompliance/**", "/a/_xcompliance/index/", True),
    ],
)
def test_folders_that_hold_nothing_of_it_are_not_looked_into(
    pattern: str, folder: str, may_hold: bool
) -> None:
    assert Glob(pattern).may_hold(folder) is may_hold


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [
        ("s3://b/a/2024-*/x", "s3://b/a/2024-"),
        ("s3://b/a/", "s3://b/a/"),
        ("s3://b/?", "s3://b/"),
        ("s3://b/a[0]", "s3://b/a"),
    ],
)
def test_the_longest_fixed_prefix_is_known(pattern: str, fixed: str) -> None:
    assert is_glob(pattern)
    assert Glob(pattern).fixed == fixed


def test_a_name_without_wildcards_is_no_pattern() -> None:
    assert not is_glob("s3://bucket/a/(b)+{c}.json")


_SEGMENT = st.sampled_from(["*", "**", "a", "b*", "?b", "[ab]", "[!a]b"])
_NAME = st.lists(st.sampled_from(["a", "b", "ab", "bb", "c"]), min_size=1, max_size=5)


@given(st.lists(_SEGMENT, min_size=1, max_size=4), _NAME)
def test_every_folder_on_the_way_to_a_match_is_looked_into(segments: list[str], parts: list[str]) -> None:
    glob, name = Glob("/" + "/".join(segments)), "/" + "/".join(parts)

    if glob.matches(name):
        assert name.startswith(glob.fixed)
        folders = ["/" + "/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        assert all(glob.may_hold(folder) for folder in folders)
