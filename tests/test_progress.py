import logging

import pytest

from airflow_provider_xcompliance.progress import Progress


class TestProgress:
    def test_bytes_share_and_rate_are_told_every_few_seconds(self, caplog: pytest.LogCaptureFixture) -> None:
        times = iter([0.0, 1.0, 4.9, 5.0, 9.9, 12.5])
        progress = Progress("uploading to job 1", clock=lambda: next(times))

        with caplog.at_level(logging.INFO):
            for done in (1, 2, 30_000_000, 4, 75_000_000):
                progress(done, 120_000_000)

        assert caplog.messages == [
            "uploading to job 1: 30,000,000 of 120,000,000 (25 %) bytes, 6.0 MB/s",
            "uploading to job 1: 75,000,000 of 120,000,000 (62 %) bytes, 6.0 MB/s",
        ]

    @pytest.mark.parametrize("total", [None, 0])
    def test_without_a_total_there_is_no_share(
        self, total: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        times = iter([0.0, 10.0])
        progress = Progress("downloading", clock=lambda: next(times))

        with caplog.at_level(logging.INFO):
            progress(5_000_000, total)

        assert caplog.messages == ["downloading: 5,000,000 bytes, 0.5 MB/s"]
