#!/bin/sh
# Runs the schedule now and waits for its end: a run that needs no open connection.
#   ARCHESTRA_API_KEY  an API key of the platform, sent without "Bearer"
#   SCHEDULE_ID        npm run archestra:status
set -eu
: "${ARCHESTRA_API_KEY:?}" "${SCHEDULE_ID:?}"
url="${ARCHESTRA_URL:-http://localhost:9000}/api/schedule-triggers/$SCHEDULE_ID"
field() { node --print "JSON.parse(require('node:fs').readFileSync(0, 'utf8')).$1 ?? ''"; }
call() { curl --silent --show-error --fail-with-body --max-time 60 --header "Authorization: $ARCHESTRA_API_KEY" "$@"; }

run=$(call --header "Content-Type: application/json" --data '{}' "$url/run-now" | field id)
while :; do
  answer=$(call "$url/runs/$run")
  status=$(printf %s "$answer" | field status)
  [ "$status" = running ] || break
  sleep 5
done
echo "$status $(printf %s "$answer" | field error)"
# A run that asked for approval has failed: nobody can be asked.
[ "$status" = success ]
