#!/bin/sh
# Sends a message to the Data Transformer over REST and prints its answer.
#   ARCHESTRA_TOKEN  a personal token: npm run --silent archestra -- token
#   AGENT_ID         the agent's id: npm run archestra:status
#   CONTEXT_ID       goes on with a conversation; each answer names its own
# Usage: sh archestra/examples/send-message.sh "Copy the products index to PostgreSQL"
set -eu
: "${ARCHESTRA_TOKEN:?}" "${AGENT_ID:?}"

# The text as JSON, and a message id, which must be a UUID: with any other text the whole run is done and then fails.
body=$(MESSAGE="$1" CONTEXT_ID="${CONTEXT_ID-}" node --print '
  const { MESSAGE: text, CONTEXT_ID } = process.env;
  const message = { messageId: crypto.randomUUID(), role: "ROLE_USER", parts: [{ text }], ...(CONTEXT_ID ? { contextId: CONTEXT_ID } : {}) };
  JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendMessage", params: { message } });')

# Version 1.2.71 answers when the run is over, so there is no limit here that is shorter than a long load.
answer=$(curl --silent --show-error --fail-with-body --max-time 7200 \
  --header "Authorization: Bearer $ARCHESTRA_TOKEN" --header "Content-Type: application/json" \
  --data "$body" "${ARCHESTRA_URL:-http://localhost:9000}/v2/a2a/$AGENT_ID")

# Errors come with status 200.
printf %s "$answer" | node --eval '
  const { result, error } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  if (error) { console.error(`${error.code} ${error.message} ${error.data?.reason ?? ""}`); process.exit(1); }
  const { task, message } = result;
  if (task) { console.error(`${task.status.state}, task ${task.id}, context ${task.contextId}`); console.log(JSON.stringify(task.metadata)); process.exit(3); }
  console.error(`context ${message.contextId}`);
  console.log(message.parts.at(-1).text);'
