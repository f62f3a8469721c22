#!/usr/bin/env bash
# Look after a deployment with curl: its runners, and the secrets that open its API.
#
#     examples/administration.sh
#
# Needs a running `horus up` of this user, and python; HORUS_URL and HORUS_STATE_DIR
# name another deployment.
set -euo pipefail
url=${HORUS_URL:-http://127.0.0.1:3030}
state=${HORUS_STATE_DIR:-$HOME/.horus}

# The secret goes through a file descriptor: a command line is for everybody to read.
call() {
  curl --silent --show-error --json @- "$url" \
    --header @<(printf 'Authorization: Bearer %s' "$(<"$state/secrets/admin")") \
    <<<'{"jsonrpc": "2.0", "id": 1, "method": "'"$1"'", "params": '"${2:-[]}"'}'
}
field() {
  python -c "
import json, sys
answer = json.load(sys.stdin)
if 'error' in answer:
    sys.exit(str(answer['error']))
it = answer['result']
print($1)"
}

echo "deployment: $(call get_supervisor_info | field 'it["namespace"]')"
# Others may be there as well, which this supervisor did not start.
name=$(call list_runners | field 'next(one["name"] for one in it if one["process_manager"])')
echo "runner: $name"
call stop_runner '["'"$name"'"]' | field 'it["status"]'
call start_runner '["'"$name"'"]' >/dev/null
until [[ $(call get_runner_status '{"name": "'"$name"'"}' | field 'it["status"]') == running ]]; do
  sleep 0.2
done
echo "lines of its log: $(call get_runner_logs '["'"$name"'", 1]' | field 'len(it)')"

id=$(call add_secret '{"scope": "user", "contexts": ["lab"]}' | field 'it["id"]')
known() { call list_secrets | python -c "import sys; print('$id' in sys.stdin.read())"; }
echo "added: $(known)"
echo "removed: $(call remove_secret '["'"$id"'"]' | field it)"
echo "still there: $(known)"
