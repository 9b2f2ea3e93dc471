"""What the bytes mean: ids, and events. Knows no Airflow and no HTTP."""
