#!/bin/sh
# Sends a message and prints the events of the run as they come. Needs a version of the platform after 1.2.71:
# `capabilities.streaming` of the agent's card (/v2/a2a/ID/.well-known/agent-card.json) says whether it streams.
# Usage: ARCHESTRA_TOKEN=… AGENT_ID=… sh archestra/examples/stream-message.sh "Copy the products index to PostgreSQL"
set -eu
: "${ARCHESTRA_TOKEN:?}" "${AGENT_ID:?}"

body=$(MESSAGE="$1" node --print '
  const message = { messageId: crypto.randomUUID(), role: "ROLE_USER", parts: [{ text: process.env.MESSAGE }] };
  JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendStreamingMessage", params: { message } });')

# Without A2A-Version the events have the shapes of version 0.3.
curl --silent --show-error --fail-with-body --no-buffer \
  --header "Authorization: Bearer $ARCHESTRA_TOKEN" --header "Content-Type: application/json" \
  --header "Accept: text/event-stream" --header "A2A-Version: 1.0" \
  --data "$body" "${ARCHESTRA_URL:-http://localhost:9000}/v2/a2a/$AGENT_ID"
