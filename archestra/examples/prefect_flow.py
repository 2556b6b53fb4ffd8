"""A Prefect flow that runs the Data Transformer every night: ``python prefect_flow.py`` serves it, ``--now`` runs it once.

ARCHESTRA_URL, ARCHESTRA_TOKEN and AGENT_ID are in the environment. The flow fails when the run fails. It may be
retried: a repeated run finds the job that works already, and equal rows are left untouched.
"""

import os
import sys

from prefect import flow, task

import data_transformer


@task(retries=2, retry_delay_seconds=int(os.environ.get("RETRY_DELAY_SECONDS", "300")), timeout_seconds=7200)
def transform(message: str) -> str:
    return data_transformer.run(message)


@flow(log_prints=True)
def products_to_postgres(
    message: str = "Copy the products index to the table products in PostgreSQL and verify the load.",
) -> None:
    print(transform(message))


if __name__ == "__main__":
    if sys.argv[1:] == ["--now"]:
        products_to_postgres()
    else:
        products_to_postgres.serve(name="nightly", cron="0 2 * * *", limit=1)
