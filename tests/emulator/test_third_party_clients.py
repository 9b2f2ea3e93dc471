"""Clients that were written for X, pointed at the stand-in and otherwise as they are."""

import pytest
import requests
import tweepy
import xdk
from xdk.compliance.models import CreateJobsRequest

from airflow_provider_xcompliance.emulator.jobs import FIELDS

ADDRESS_OF_X = "https://api.twitter.com"


class Rerouted(requests.Session):
    """A session in which the stand-in has the address of X: tweepy has no setting for it."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.base_url = base_url

    def request(self, method, url, **options):
        assert url.startswith(f"{ADDRESS_OF_X}/")
        return super().request(method, self.base_url + url.removeprefix(ADDRESS_OF_X), **options)


@pytest.fixture
def tweepy_client(emulator):
    client = tweepy.Client(bearer_token=emulator.bearer_token)
    with Rerouted(emulator.url) as client.session:
        yield client


@pytest.fixture
def xdk_client(emulator):
    client = xdk.Client(base_url=emulator.url, bearer_token=emulator.bearer_token)
    with client.session:
        yield client.compliance


@pytest.mark.parametrize("job_type", ["tweets", "users"])
class TestTweepy:
    def test_it_creates_gets_and_lists(self, tweepy_client, flow, job_type):
        assert tweepy_client.get_compliance_jobs(job_type).data is None
        job = tweepy_client.create_compliance_job(job_type, name="nightly").data
        assert (job["status"], job["name"], job["type"]) == ("created", "nightly", job_type)
        assert tweepy_client.get_compliance_job(job["id"]).data == job
        listed = tweepy_client.get_compliance_jobs(job_type, status="created")
        assert (listed.data, listed.meta) == ([job], {"result_count": 1})
        assert ("upload_url" in job) is (flow == "legacy")

    def test_it_creates_a_resumable_job_where_there_are_any(self, tweepy_client, flow, job_type):
        if flow == "legacy":
            assert tweepy_client.create_compliance_job(job_type, resumable=True).data["resumable"] is True
        else:
            with pytest.raises(tweepy.BadRequest, match=r"[Rr]esumable"):
                tweepy_client.create_compliance_job(job_type, resumable=True)


class TestTweepysErrors:
    def test_a_problem_becomes_its_exception(self, emulator, tweepy_client):
        with pytest.raises(tweepy.NotFound):
            tweepy_client.get_compliance_job(1)
        with pytest.raises(tweepy.BadRequest, match="status"):
            tweepy_client.get_compliance_jobs("tweets", status="posts")
        emulator.configure(rate_limit=0)
        with pytest.raises(tweepy.TooManyRequests):
            tweepy_client.get_compliance_jobs("tweets")
        tweepy_client.bearer_token = "wrong"
        with pytest.raises(tweepy.Unauthorized):
            tweepy_client.get_compliance_jobs("tweets")


@pytest.mark.parametrize("job_type", ["tweets", "users"])
def test_xdk_creates_gets_and_lists(xdk_client, flow, job_type):
    fields = list(FIELDS)
    assert xdk_client.get_jobs(job_type).data is None
    body = CreateJobsRequest(type=job_type, name="nightly")
    job = xdk_client.create_jobs(body, compliance_job_fields=fields).data
    assert (job.status, job.name, job.type) == ("created", "nightly", job_type)
    assert job.upload_url
    assert job.download_url
    assert xdk_client.get_jobs_by_id(job.id, compliance_job_fields=fields).data == job
    listed = xdk_client.get_jobs(job_type, status="created", compliance_job_fields=fields)
    assert listed.data == [job]
    assert listed.meta.result_count == 1
