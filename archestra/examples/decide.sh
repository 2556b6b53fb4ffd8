#!/bin/sh
# Answers what the Data Transformer asks before it deletes an export or replaces a table, and prints what it did.
# Usage: TASK_ID=… CONTEXT_ID=… sh archestra/examples/decide.sh true APPROVAL_ID…
# Everything is in what send-message.sh prints when it ends with code 3.
set -eu
: "${ARCHESTRA_TOKEN:?}" "${AGENT_ID:?}" "${TASK_ID:?}" "${CONTEXT_ID:?}"

body=$(node --print '
  const [approved, ...ids] = process.argv.slice(1);
  const { TASK_ID: taskId, CONTEXT_ID: contextId } = process.env;
  const approvalDecisions = ids.map((approvalId) => ({ approvalId, approved: approved === "true" }));
  const message = { messageId: crypto.randomUUID(), taskId, contextId, role: "ROLE_USER", parts: [], metadata: { taskOps: { approvalDecisions } } };
  JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendMessage", params: { message } });' "$@")

curl --silent --show-error --fail-with-body --max-time 7200 \
  --header "Authorization: Bearer $ARCHESTRA_TOKEN" --header "Content-Type: application/json" \
  --data "$body" "${ARCHESTRA_URL:-http://localhost:9000}/v2/a2a/$AGENT_ID"
