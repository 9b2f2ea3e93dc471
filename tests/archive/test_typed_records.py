import pytest

from airflow_provider_xcompliance.archive.records import ids_of
from airflow_provider_xcompliance.archive.typed_records import TypedReader, UncommonError


def is_common(line: bytes) -> bool:
    try:
        TypedReader().held(memoryview(line), 1)
    except UncommonError:
        return False
    return True


BROKEN = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe6\x97", b"\xf4\x90\x80\x80", b"\x80" * 9]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("line", [b'{"id":"1","x":"%s"}', b'{"id":"1","%s":1}', b'{"id":"1","id%s":"2"}'])
def test_text_that_is_no_utf8_is_text(line: bytes, text: bytes) -> None:
    assert is_common(line % text)
    assert ids_of(line % text).posts == [1]


@pytest.mark.parametrize("text", BROKEN)
def test_an_id_that_is_no_utf8_is_for_others_to_judge(text: bytes) -> None:
    assert not is_common(b'{"id":"1%s"}' % text)


@pytest.mark.parametrize(
    "number", [b"1.0", b'"1.0"', b"1e3", b'"1e3"', b'"inf"', b'"NaN"', b'"+1"', b'" 1"', b'"01"']
)
@pytest.mark.parametrize("line", [b'{"id":%s}', b'{"id":"1","author_id":%s}', b'{"id_str":%s,"user":null}'])
def test_numbers_that_are_no_ids_are_for_others_to_judge(line: bytes, number: bytes) -> None:
    assert not is_common(line % number)


@pytest.mark.parametrize("before", [0, 1, 200, 511, 512, 513, 100_000])
def test_no_number_too_long_for_int_gets_through(before: int) -> None:
    line = b'{"id":"1","x":"%s","y":%s,"z":"%s"}'

    assert not is_common(line % (b"x" * before, b"7" * 4_301, b"x" * 5_000))
    assert is_common(line % (b"x" * before, b"7" * 1_000, b"x" * 5_000))


SOURCE = '{"additional_media_info":{"source_user":%s}}'


@pytest.mark.parametrize("start", ['{"id":"1","author_id":"7"', '{"id":"1"', '{"id_str":"1","user":null'])
@pytest.mark.parametrize(
    "member", ['"%s":{"media":[{"id":5},%s]}', '"extended_tweet":{"full_text":"","%s":{"media":[%s]}}']
)
@pytest.mark.parametrize("name", ["entities", "extended_entities"])
def test_profiles_in_media_are_for_others_to_judge(start: str, member: str, name: str) -> None:
    def line(user: str) -> bytes:
        return f"{start},{member % (name, SOURCE % user)}}}".encode()

    assert is_common(line("null"))
    assert not is_common(line('{"id_str":"8"}'))


@pytest.mark.parametrize("author", ["", '"author_id":"7",', '"author":{"id":"7"},', '"user":{"id_str":"7"},'])
@pytest.mark.parametrize("mention", ['{"start":0,"id":"8"}', '{"start":0,"id":"8","name":"b"}'])
def test_profiles_in_mentions_are_found_at_once(author: str, mention: str) -> None:
    line = f'{{{author}"id":"1","id_str":"1","entities":{{"mentions":[{mention}]}}}}'.encode()
    unnumbered = line.replace(b'"id_str":"1",', b"")

    for each in (line, unnumbered):
        assert set(TypedReader().held(memoryview(each), 1).users.tolist()) == set(ids_of(each).users)


@pytest.mark.parametrize("number", [b'"0.0"', b"0.0", b'"-0.0"', b'"0"', b"0"])
@pytest.mark.parametrize("author", [b"", b'"author":null,', b'"author":{"id":"9"},'])
def test_an_author_that_is_no_number_hides_no_profiles(number: bytes, author: bytes) -> None:
    line = b'{"id":"5","author_id":%s,%b"entities":{"mentions":[{"username":"a","id":"7","name":"x"}]}}'

    assert not is_common(line % (number, author))


def test_lines_are_told_apart() -> None:
    lines = [
        b'{"id":"1","author_id":"7"}',
        b'{"id":"2","referenced_tweets":[{"type":"retweeted","id":"3"},{"type":"quoted","id":"4"}]}',
        b'{"id":"5","author_id":"7"}',
    ]

    held = TypedReader().held(memoryview(b"\n\n".join(lines)), len(lines))

    assert sorted(zip(held.posts.tolist(), held.post_lines.tolist(), strict=True)) == [
        (post, number) for number, line in enumerate(lines) for post in ids_of(line).posts
    ]
    assert sorted(zip(held.users.tolist(), held.user_lines.tolist(), strict=True)) == [(7, 0), (7, 2)]
    assert (held.records, held.authorless) == (3, 1)


@pytest.mark.parametrize("lines", [1, 3])
def test_another_number_of_records_than_of_lines_is_uncommon(lines: int) -> None:
    with pytest.raises(UncommonError):
        TypedReader().held(memoryview(b'{"id":"1"}{"id":"2"}'), lines)
