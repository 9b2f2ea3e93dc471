"""Batch compliance for stored X data, from Apache Airflow."""

__version__ = "0.1.0"
