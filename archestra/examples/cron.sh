#!/bin/sh
# Runs the Data Transformer by cron, with nothing but a shell and curl. Ends with 0 only if the agent reports a success.
#   ARCHESTRA_TOKEN  a personal token: npm run --silent archestra -- token
#   AGENT_ID         the agent's id: npm run archestra:status
# In a crontab, every night at two; flock lets no run begin while the one before it works:
#   0 2 * * *  . /etc/data-transformer.env; flock -n /run/lock/data-transformer sh /opt/es-to-pg/archestra/examples/cron.sh "Copy the products index to the table products and verify the load." >> /var/log/data-transformer.log 2>&1 || logger -p user.err "the Data Transformer failed"
set -eu
: "${ARCHESTRA_TOKEN:?}" "${AGENT_ID:?}"
message="$1"
case "$message" in *[\"\\]*) echo "The message may hold no \" and no \\, which would need JSON's escapes." >&2; exit 2 ;; esac
message_id=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)

# A conversation of its own: an old one would send all earlier results to the model again.
answer=$(curl --silent --show-error --fail-with-body --max-time 7200 \
  --header "Authorization: Bearer $ARCHESTRA_TOKEN" --header "Content-Type: application/json" \
  --data "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"SendMessage\",\"params\":{\"message\":{\"messageId\":\"$message_id\",\"role\":\"ROLE_USER\",\"parts\":[{\"text\":\"$message\"}]}}}" \
  "${ARCHESTRA_URL:-http://localhost:9000}/v2/a2a/$AGENT_ID")

printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$answer"
# Errors come with status 200, a question (TASK_STATE_INPUT_REQUIRED) too. agent-prompt.md ends the report of a load with a
# line that says how it went; the last one counts, and it is a line of its own.
result=$(printf '%s' "$answer" | grep -o '\(\\n\|"\)Result: [a-z]*; rejected [0-9]*\(\\n\|"\)' | tail -n 1)
case "$result" in
  *'Result: success; rejected 0'*) ;;
  *) exit 1 ;;
esac
