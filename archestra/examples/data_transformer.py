"""Calls the Data Transformer over Archestra's REST API (A2A). Python's standard library is all it needs.

The Airflow and the Prefect example use it; so can any other program:

    report = run("Copy the products index to the table products and verify the load.")
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
import uuid


class TransformerError(Exception):
    """The run failed, or nobody can say that it did not."""


def run(message: str, *, max_rejected: int = 0, timeout_seconds: float = 7200) -> str:
    """Sends one message in a conversation of its own, waits for the end and returns the agent's report.

    Reads ARCHESTRA_TOKEN (a personal token), AGENT_ID and ARCHESTRA_URL from the environment. Raises TransformerError
    unless the report ends with ``Result: success`` and at most ``max_rejected`` rejected documents.
    """
    report = _send(message, timeout_seconds)
    # The last line of a report by agent-prompt.md.
    results = re.findall(r"^Result: (success|failure); rejected (\d+)\s*$", report, flags=re.MULTILINE)
    if not results:
        raise TransformerError(f"the agent reported no result: {report}")
    outcome, rejected = results[-1]
    if outcome != "success":
        raise TransformerError(report)
    if int(rejected) > max_rejected:
        raise TransformerError(f"{rejected} documents were rejected, at most {max_rejected} may be: {report}")
    return report


def _send(message: str, timeout_seconds: float) -> str:
    url = f"{os.environ.get('ARCHESTRA_URL', 'http://localhost:9000')}/v2/a2a/{os.environ['AGENT_ID']}"
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "SendMessage",
        # The id must be a UUID: with any other text the whole run is done and then fails.
        "params": {"message": {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": message}]}},
    }
    headers = {"Authorization": f"Bearer {os.environ['ARCHESTRA_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(call).encode(), headers=headers)
    try:
        # Version 1.2.71 answers when the run is over, so there is no limit here that is shorter than a long load.
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise TransformerError(f"HTTP {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise TransformerError(f"{url} does not answer: {error}") from error
    # Errors come with status 200.
    if "error" in answer:
        raise TransformerError(f"{answer['error'].get('code')} {answer['error'].get('message')}")
    result = answer["result"]
    if "task" in result:
        asked = [one["toolName"] for one in result["task"].get("metadata", {}).get("approvalRequests", [])]
        state = result["task"]["status"]["state"]
        raise TransformerError(f"the run is {state}: it asks for approval of {', '.join(asked) or 'something'}, and nobody can give it here")
    return result["message"]["parts"][-1]["text"]
