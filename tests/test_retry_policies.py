import json
from datetime import timedelta

import airflow
import pytest
from packaging.version import Version

if Version(airflow.__version__) < Version("3.3"):
    pytest.skip("retry policies came with Airflow 3.3", allow_module_level=True)

from airflow.sdk import DAG, RetryAction, RetryDecision

from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.operators.jobs import RunJobOperator
from airflow_provider_xcompliance.retries import RETRIES
from airflow_provider_xcompliance.retry_policies import XComplianceRetryPolicy
from airflow_provider_xcompliance.storage import StorageError


def decision(error: BaseException, try_number: int = 1) -> RetryDecision:
    return XComplianceRetryPolicy().evaluate(error, try_number, max_tries=3, context=None)


class TestDecisions:
    @pytest.mark.parametrize("seconds", [0, 1, 300, 900, 86_400])
    @pytest.mark.parametrize("try_number", [1, 3])
    def test_a_rate_limit_is_retried_within_its_reset_and_a_tenth_more(self, seconds, try_number):
        decided = decision(errors.RateLimitedError("x", wait_seconds=seconds), try_number)

        assert decided.action is RetryAction.RETRY
        assert seconds <= decided.retry_delay.total_seconds() <= 1.1 * seconds

    def test_without_a_reset_it_is_retried_as_the_task_says(self):
        decided = decision(errors.RateLimitedError("x"))

        assert (decided.action, decided.retry_delay) == (RetryAction.RETRY, None)

    @pytest.mark.parametrize(
        "error",
        [errors.NetworkError("x"), errors.JobFailedError("x"), errors.DeadlineError("x"), StorageError("x")],
        ids=lambda error: type(error).__name__,
    )
    def test_what_another_try_may_cure_is_retried_as_the_task_says(self, error):
        decided = decision(error)

        assert (decided.action, decided.retry_delay) == (RetryAction.RETRY, None)
        assert decided.reason in {retry.why for retry in RETRIES}

    @pytest.mark.parametrize(
        "error",
        [
            errors.AuthenticationError("x"),
            errors.UsageCappedError("x"),
            InvalidIdsError("x"),
            ValueError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_none_can_cure_fails_at_once(self, error):
        assert decision(error).action is RetryAction.FAIL

    @pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
    def test_what_is_not_of_this_package_is_left_to_the_task(self, error):
        assert decision(error) == RetryDecision.default()

    def test_it_agrees_with_the_table_line_by_line(self):
        for retry in RETRIES:
            action = decision(retry.kinds[0]("x")).action
            assert (action is RetryAction.RETRY) == retry.by_task


class TestInADag:
    """Airflow stores that there is a policy, and takes the policy itself from the DAG's file."""

    @pytest.fixture
    def dag(self) -> DAG:
        options = {"job_type": "tweets", "source": "/ids", "destination": "/events"}
        policy = XComplianceRetryPolicy()
        with DAG("with_policy", schedule=None, default_args={"retry_policy": policy}) as dag:
            RunJobOperator(task_id="run", retries=3, **options)
            del options["source"]
            RunJobOperator.partial(task_id="mapped", retry_policy=policy, **options).expand(source=["/ids"])
        return dag

    def test_it_survives_the_serialization_of_its_dag(self, dag):
        from airflow.serialization.serialized_objects import DagSerialization

        stored = json.dumps(DagSerialization.to_dict(dag))
        again = DagSerialization.from_dict(json.loads(stored))

        assert XComplianceRetryPolicy.__name__ not in stored
        assert again.get_task("run").has_retry_policy
        assert again.get_task("mapped").has_retry_policy
        assert stored == json.dumps(DagSerialization.to_dict(dag))

    def test_the_task_runner_asks_it(self, dag):
        from airflow.sdk.execution_time.task_runner import _evaluate_retry_policy
        from structlog import get_logger

        class Instance:
            task = dag.get_task("run")
            try_number = 1
            _ti_context_from_server = None

        limited = errors.RateLimitedError("x", wait_seconds=600)

        decided = _evaluate_retry_policy(Instance, limited, get_logger(), None)

        assert decided.action is RetryAction.RETRY
        assert timedelta(seconds=600) <= decided.retry_delay <= timedelta(seconds=660)
