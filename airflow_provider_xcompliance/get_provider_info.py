"""What Airflow is told about this provider."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "X Batch Compliance"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as Airflow's ``provider.yaml`` schema describes it."""
    package = "airflow_provider_xcompliance"
    return {
        "package-name": "airflow-provider-xcompliance",
        "name": _INTEGRATION,
        "description": "Keep stored X (Twitter) data in compliance with X's batch compliance endpoints.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.x.com/x-api/compliance/batch-compliance/introduction",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {"integration-name": _INTEGRATION, "python-modules": [f"{package}.hooks.compliance"]},
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [f"{package}.operators.{name}" for name in ("archives", "jobs", "tables")],
            },
        ],
        "sensors": [
            {"integration-name": _INTEGRATION, "python-modules": [f"{package}.sensors.jobs"]},
        ],
        "triggers": [
            {"integration-name": _INTEGRATION, "python-modules": [f"{package}.triggers.jobs"]},
        ],
        "connection-types": [CONNECTION_TYPE],
    }


#: The connection form. Airflow 3.2 and later read it from here, earlier ones through the hook's methods.
CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "xcompliance",
    "hook-class-name": "airflow_provider_xcompliance.hooks.compliance.XComplianceHook",
    "hook-name": _INTEGRATION,
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {
            "host": "API base URL",
            "login": "API key",
            "password": "Bearer token, or API secret",
        },
        "placeholders": {
            "host": "https://api.x.com",
            "login": "empty with a bearer token",
            "password": "App-only bearer token; with an API key, its secret",
        },
    },
    "conn-fields": {
        "owner": {
            "label": "Owner",
            "description": "Who uses the App through this connection; part of every job's name, so that "
            "deployments which share an App know their own jobs. Airflow's [api] base_url if empty",
            "schema": {"type": ["string", "null"]},
        },
        "allowed_hosts": {
            "label": "Further allowed hosts",
            "description": "Hosts, separated by commas, that upload and download URLs may point to besides "
            "X's own and Google Cloud Storage",
            "schema": {"type": ["string", "null"]},
        },
        "timeout_seconds": {
            "label": "Time-out (seconds)",
            "description": "For connecting, and for every single read; 60 if empty",
            "schema": {"type": ["integer", "null"], "minimum": 1},
        },
        "upload_content_type": {
            "label": "Upload content type",
            "description": "Of the upload in X's current flow; text/plain if empty",
            "schema": {"type": ["string", "null"]},
        },
        "ca_bundle": {
            "label": "CA bundle",
            "description": "Path of the certificates to trust, on the workers; the system's if empty",
            "schema": {"type": ["string", "null"]},
        },
    },
}
