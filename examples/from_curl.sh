#!/usr/bin/env bash
# Hand in a job and ask for its status with curl; only signing takes a line of Python.
#
#     examples/from_curl.sh
#
# Needs a running `horus up` of this user, and a python with Horus installed;
# HORUS_URL and HORUS_STATE_DIR name another deployment.
set -euo pipefail
url=${HORUS_URL:-http://127.0.0.1:3030}
state=${HORUS_STATE_DIR:-$HOME/.horus}

# The secret goes through a file descriptor: a command line is for everybody to read.
call() {
  curl --silent --show-error --json @- "$url" \
    --header @<(printf 'Authorization: Bearer %s' "$(<"$state/secrets/user")")
}
field() { python -c "import json, sys; print(json.load(sys.stdin)$1)"; }

job=$(python -c '
import sys; from datetime import UTC, datetime
from horus_celery.statements import dsse, job, keys
made = job.make_job(aud="hero", caller_id="default", context_id="default",
                    executor="system", payload="echo from curl", now=datetime.now(UTC))
print(dsse.to_json(dsse.sign(dsse.JOB, made.body(), [keys.read_key_file(sys.argv[1])])))
' "$state/keys/default.key")
params='{"jsonrpc": "2.0", "id": 1, "method": "create_job", "params": {"job": '$job'}}'
id=$(call <<<"$params" | field '["result"]')

ask() { echo '{"jsonrpc":"2.0","id":2,"method":"'"$1"'","params":{"job_id":"'"$id"'"}}'; }
status=queued
until [[ $status =~ ^(completed|failed|stopped|rejected)$ ]]; do
  sleep 0.1
  status=$(ask job.status | call | field '["result"]["status"]')
done
echo "$status: $(ask job.result | call | field '["result"]')"
