"""An Airflow DAG that runs the Data Transformer every night. Copy it, with data_transformer.py, into the DAGs folder.

ARCHESTRA_URL, ARCHESTRA_TOKEN and AGENT_ID are in the environment of the workers. The task fails when the run fails.
It may be retried: a repeated run finds the job that works already, and equal rows are left untouched.
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag, task

import data_transformer


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Two at a time would load the same table in turn.
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=int(os.environ.get("RETRY_DELAY_SECONDS", "300"))),
        "execution_timeout": timedelta(hours=2),
    },
)
def products_to_postgres():
    @task
    def transform() -> str:
        return data_transformer.run("Copy the products index to the table products in PostgreSQL and verify the load.")

    transform()


products_to_postgres()
