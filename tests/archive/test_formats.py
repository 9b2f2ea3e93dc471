import pytest

from airflow_provider_xcompliance.archive import formats
from airflow_provider_xcompliance.archive.formats import (
    COMPRESSIONS,
    KINDS,
    Columns,
    Format,
    format_of,
    module_of,
)

COLUMNS = Columns("id", "author_id", ("geo",))


@pytest.mark.parametrize("compression", ["", *COMPRESSIONS])
@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("s3://bucket/day=1/posts.ndjson", {}, Format("ndjson")),
        ("posts.v2.jsonl", {"shape": "posts"}, Format("ndjson", shape="posts")),
        ("posts.JSON", {"shape": "pages"}, Format("ndjson", shape="pages")),
        ("posts.csv", {"columns": COLUMNS}, Format("csv", columns=COLUMNS)),
        (
            "users.tsv",
            {"columns": Columns("uid"), "shape": "users"},
            Format("tsv", shape="users", columns=Columns("uid")),
        ),
        ("ids.txt", {"shape": "tweet_ids"}, Format("ids", shape="tweet_ids")),
        ("dir.csv/of.ids", {"shape": "user_ids"}, Format("ids", shape="user_ids")),
    ],
)
def test_the_name_tells_the_format(name, told, expected, compression):
    found = format_of(name + compression, **told)

    assert found == Format(
        expected.kind, compression.removeprefix("."), shape=expected.shape, columns=expected.columns
    )


def test_parquet_is_compressed_inside():
    assert format_of("a.snappy.parquet", columns=COLUMNS) == Format("parquet", columns=COLUMNS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.ndjson", Format("ndjson")),
        ("a.csv", Format("csv", columns=COLUMNS)),
        ("a.txt", Format("ids", shape="user_ids")),
    ],
)
def test_what_is_told_of_other_kinds_of_files_is_left_out(name, expected):
    assert format_of(name, shape="user_ids", columns=COLUMNS) == expected


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("s3://b/posts.xml", {}, r"^s3://b/posts\.xml: .* \.ndjson, .* \.gz or \.zst"),
        ("ndjson", {}, r"^ndjson: "),
        ("posts.gz", {}, r"^posts\.gz: "),
        ("posts.ndjson.bz2", {}, r"^posts\.ndjson\.bz2: "),
        ("posts.ndjson.gz.gz", {}, r"^posts\.ndjson\.gz\.gz: "),
        ("posts.parquet.gz", {"columns": COLUMNS}, r"^posts\.parquet\.gz: .*take the \.gz around it off"),
        ("posts.csv", {}, r"^posts\.csv: .*give columns=Columns\(id="),
        ("posts.tsv", {"shape": "tweet_ids"}, r"^posts\.tsv: .*give columns"),
        ("posts.parquet", {}, r"^posts\.parquet: .*give columns"),
        ("users.csv", {"shape": "users", "columns": COLUMNS}, r"^users\.csv: .*'author_id'"),
        ("ids.txt", {}, r"^ids\.txt: .*give one of the shapes tweet_ids, user_ids"),
        ("ids.ids.gz", {"shape": "posts"}, r"^ids\.ids\.gz: .*give one of the shapes"),
        (
            "posts.ndjson",
            {"shape": "tweets"},
            r"^posts\.ndjson: there is no shape 'tweets'; give one of posts",
        ),
    ],
)
def test_what_does_not_suffice_is_refused_with_what_to_give(name, told, says):
    with pytest.raises(ValueError, match=says):
        format_of(name, **told)


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_each_kind_has_a_module_that_reads_and_rewrites_it(kind):
    module = module_of(Format(kind))

    assert callable(module.read)
    assert callable(module.rewrite)


def test_each_kind_is_listed_everywhere():
    assert set(KINDS.values()) == set(formats.SHAPES) == set(formats._MODULES)
