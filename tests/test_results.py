import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.archive.guards import Result
from airflow_provider_xcompliance.results import InvalidResultError, Reference, find_results, read_landed
from airflow_provider_xcompliance.storage import StorageError

EVENTS = b"""\
{"id":"11","action":"delete","reason":"deleted"}
{"id":"12","action":"delete","reason":"deleted"}

{"id":"13","action":"scrub_geo","reason":"geo_scrubbed"}
{"id":"14","error":"invalid_id"}
"""
MANIFEST: dict[str, Any] = {
    "job_id": "77",
    "job_type": "tweets",
    "job_name": None,
    "bytes": len(EVENTS),
    "sha256": hashlib.sha256(EVENTS).hexdigest(),
    "unverified_length": False,
    "events": 3,
    "actions": {"delete": {"deleted": 2}, "scrub_geo": {"geo_scrubbed": 1}},
    "errors": {"invalid_id": 1},
    "unknown": [],
    "repeated": 0,
    "submitted": {"source": "/ids.txt", "ids": 100, "bytes": 300, "sha256": "5"},
    "control_ids": [],
    "destination": "/landed/elsewhere/at/first",
    "provider_version": "0.1.0",
}

Land = Callable[..., Reference]


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """Return a function that lands a result, with changes to its manifest, and tells where."""

    def put(events: bytes | None = EVENTS, **changes: Any) -> Reference:
        path = tmp_path / "events.ndjson"
        if events is not None:
            path.write_bytes(events)
        Path(f"{path}.manifest.json").write_text(json.dumps(MANIFEST | changes))
        return Reference(str(path), {})

    return put


def refusal(reference: Reference) -> str:
    with pytest.raises(InvalidResultError) as caught:
        read_landed(reference)
    assert str(caught.value).startswith(f"{reference.uri}: ")
    return str(caught.value)


def test_a_result_is_what_its_file_and_its_manifest_say(land: Land) -> None:
    reference = land()

    assert read_landed(reference).result == Result(
        name=reference.uri,
        job_id="77",
        job_type="tweets",
        submitted=100,
        kinds={("delete", "deleted"): 2, ("scrub_geo", "geo_scrubbed"): 1},
        errors=1,
        controls=frozenset(),
        repeated=0,
        unverified_length=False,
    )


def test_control_ids_count_nowhere(land: Land) -> None:
    result = read_landed(land(control_ids=["11", "13"])).result

    assert result.submitted == 98
    assert result.kinds == {("delete", "deleted"): 1}
    assert result.controls == {"11", "13"}


def test_a_result_that_was_not_compared_says_so(land: Land) -> None:
    result = read_landed(land(submitted=None, repeated=None)).result

    assert (result.submitted, result.repeated) == (None, None)


def test_an_empty_result_is_a_result(land: Land) -> None:
    empty = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest(), "actions": {}, "errors": {}}

    assert read_landed(land(b"", **empty)).result.events == 0


class TestRefusals:
    def test_a_file_without_manifest(self, land: Land) -> None:
        reference = land()
        Path(f"{reference.uri}.manifest.json").unlink()

        assert "it has no manifest, so nothing says that it is whole; download it again" in refusal(reference)

    def test_a_manifest_without_file(self, land: Land) -> None:
        assert "there is a manifest, but no events" in refusal(land(None))

    @pytest.mark.parametrize(
        "events",
        [
            EVENTS[:-1],
            EVENTS.replace(b"13", b"15"),
            EVENTS[: EVENTS.rindex(b"{")],
            EVENTS + b"\n",
            EVENTS[:-5],
            b"",
            b"<html>",
        ],
    )
    def test_a_file_that_is_another_than_its_manifest_says(self, land: Land, events: bytes) -> None:
        assert "it is not the file of its manifest" in refusal(land(events))

    @pytest.mark.parametrize(
        "changes",
        [
            {"actions": {"delete": {"deleted": 1}, "scrub_geo": {"geo_scrubbed": 1}}},
            {"actions": {"delete": {"scrub_geo": 2}, "scrub_geo": {"geo_scrubbed": 1}}},
            {"actions": {}},
            {"errors": {}},
        ],
    )
    def test_a_manifest_that_counts_otherwise(self, land: Land, changes: dict[str, Any]) -> None:
        assert "its manifest counts other events than it holds" in refusal(land(**changes))

    @pytest.mark.parametrize("control_id", ["14", "15"])
    def test_a_manifest_that_claims_controls_without_event(self, land: Land, control_id: str) -> None:
        assert "but 1 have none" in refusal(land(control_ids=["11", control_id]))

    @pytest.mark.parametrize(
        "changes",
        [
            {"job_type": "posts"},
            {"job_id": 77},
            {"bytes": "many"},
            {"submitted": {}},
            {"submitted": {"ids": "100"}},
            {"repeated": -1},
            {"submitted": {"ids": -1}},
            {"actions": None},
            {"control_ids": "11"},
            {"unverified_length": None},
        ],
    )
    def test_a_manifest_of_another_shape(self, land: Land, changes: dict[str, Any]) -> None:
        assert "its manifest is not one of ours" in refusal(land(**changes))

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a":"\xff"}', b"null"])
    def test_a_manifest_that_is_none(self, land: Land, content: bytes) -> None:
        reference = land()
        Path(f"{reference.uri}.manifest.json").write_bytes(content)

        assert "its manifest cannot be understood" in refusal(reference)

    @pytest.mark.parametrize("key", ["job_id", "sha256", "submitted", "control_ids", "repeated"])
    def test_a_manifest_that_the_receipt_contradicts(self, land: Land, key: str) -> None:
        reference = replace(land(), receipt=MANIFEST | {key: "other", "created": True, "destination": "/x"})

        assert f"whose receipt differs from the manifest in {key}" in refusal(reference)


def test_a_store_that_fails_is_no_verdict(land: Land, tmp_path: Path) -> None:
    reference = land()
    Path(reference.uri).unlink()
    Path(reference.uri).mkdir()

    with pytest.raises(StorageError):
        read_landed(reference)


def test_a_missing_object_is_told_from_a_failing_store(s3) -> None:
    bucket, client = s3.bucket(), s3.client()
    reference = Reference(f"s3://{bucket}/events.ndjson", {})

    assert "it has no manifest" in _refusal_on(reference, client)

    client.put_object(Bucket=bucket, Key="events.ndjson.manifest.json", Body=json.dumps(MANIFEST).encode())
    assert "there is a manifest, but no events" in _refusal_on(reference, client)

    client.put_object(Bucket=bucket, Key="events.ndjson", Body=EVENTS)
    assert read_landed(reference, client).result.job_id == "77"

    with pytest.raises(StorageError):
        read_landed(replace(reference, uri="s3://no-such-bucket-anywhere/events.ndjson"), client)


def _refusal_on(reference: Reference, client: Any) -> str:
    with pytest.raises(InvalidResultError) as caught:
        read_landed(reference, client)
    return str(caught.value)


RECEIPT = {"destination": "/a", "sha256": "1"}


class TestFinding:
    @pytest.mark.parametrize(
        ("events", "uris"),
        [
            ("/a", ["/a"]),
            (["/a", "/b"], ["/a", "/b"]),
            (RECEIPT, ["/a"]),
            ([[RECEIPT], "/b", [["/c"], []]], ["/a", "/b", "/c"]),
            (iter(("/a", RECEIPT)), ["/a", "/a"]),
            ([], []),
        ],
    )
    def test_uris_and_receipts_are_found_at_any_depth(self, events: Any, uris: list[str]) -> None:
        assert [reference.uri for reference in find_results(events)] == uris

    def test_a_receipt_is_kept(self) -> None:
        assert list(find_results([RECEIPT])) == [Reference("/a", RECEIPT)]

    @pytest.mark.parametrize("events", [None, [None], "", [""], 7, {}, {"job_id": "1"}, b"/a"])
    def test_something_else_is_refused(self, events: Any) -> None:
        with pytest.raises(InvalidResultError, match="neither a URI nor the receipt of a download"):
            list(find_results(events))
