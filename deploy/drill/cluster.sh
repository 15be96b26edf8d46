# shellcheck shell=bash
# What the cluster says of itself: roles, states, events, asked by `wsctl` from a container of its own.

CONSOLE=$PROJECT-drill-console
# Nodes not to ask, because they are down, frozen or cut off.
UNASKED=

console_up() {
  docker rm --force --volumes "$CONSOLE" >/dev/null 2>&1 || true
  docker run --detach --name "$CONSOLE" --no-healthcheck --network "${PROJECT}_front" --entrypoint sleep \
    "$IMAGE" infinity >/dev/null
  docker network connect "${PROJECT}_feeds" "$CONSOLE"
}

console_down() { docker rm --force --volumes "$CONSOLE" >/dev/null 2>&1 || true; }

endpoints() {
  local node list=
  for node in "${NODES[@]}"; do
    [[ " $UNASKED " == *" $node "* ]] || list+=,$(address "$node" front):9090
  done
  printf '%s' "${list#,}"
}

ctl() { docker exec --env WSCTL_ENDPOINTS="$(endpoints)" "$CONSOLE" wsctl --quiet --no-input "$@"; }

# field NAME: its value in JSON on one line; the last one where there are several.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# Reads the roles of the connector into OWNER, STANDBY, EPOCH, STATE, WRITTEN and FLOW
# (records so far, and a second).
look() {
  local status
  status=$(ctl connector describe "$CONNECTOR" --output jsonl 2>/dev/null) || return 1
  OWNER=$(field owner <<<"$status")
  STANDBY=$(field standby <<<"$status")
  EPOCH=$(field epoch <<<"$status")
  STATE=$(field state <<<"$status")
  WRITTEN=$(field recordsCommitted <<<"$status")
  FLOW=$(field recordsPerSecond <<<"$status")
  FLOW=${FLOW%%.*}
}

leader() { ctl cluster status --output jsonl 2>/dev/null | field leader; }

# is_up NODE true|false
is_up() {
  local member
  member=$(ctl cluster status --output jsonl 2>/dev/null | tr '{' '\n' | grep "\"name\":\"$1\"") || return 1
  [[ $member == *"\"up\":$2"* ]]
}

# One leader, all nodes up.
is_settled() {
  local node
  [[ -n $(leader) ]] || return 1
  for node in "${NODES[@]}"; do
    is_up "$node" true || return 1
  done
}

# is_noticed NODE: the others know that it is down, under a leader of theirs.
is_noticed() {
  local leads
  is_up "$1" false || return 1
  leads=$(leader)
  [[ -n $leads && $leads != "$1" ]]
}

# has_new_owner EPOCH: an owner of a later epoch delivers.
has_new_owner() { look && ((EPOCH > $1)) && [[ $STATE == CONNECTOR_STATE_RUNNING ]]; }

is_redundant() { ctl wait "connector/$CONNECTOR" --for=redundant --timeout 5s 2>/dev/null; }

# Milliseconds since 1970, and the same moment as in events.
now_ms() { printf '%s' $((${EPOCHREALTIME/./} / 1000)); }
moment() { printf '%(%FT%T)T.%03dZ' $(($1 / 1000)) $(($1 % 1000)); }

# Everything that happened, to a file, as all nodes together remember it: a node that was restarted has forgotten.
save_events() {
  local node
  for node in "${NODES[@]}"; do
    [[ " $UNASKED " != *" $node "* ]] || continue
    docker exec --env WSCTL_ENDPOINTS="$(address "$node" front):9090" "$CONSOLE" \
      wsctl --quiet events --last 1000 --output jsonl || return
  done 2>/dev/null | sed 's/.*"time":"\([^"]*\)".*/\1 &/' | sort -u | cut -d ' ' -f 2- >"$WORK/events.jsonl"
}

# The events from the fault on, with their distance from it.
print_events() {
  awk -v since="$(moment $((FAULT_AT - 50)))" -v fault="$(moment "$FAULT_AT")" -v connector="$CONNECTOR" '
    function get(key,   at, rest) {
      at = index($0, "\"" key "\":\"")
      if (!at) return ""
      rest = substr($0, at + length(key) + 4)
      if (rest ~ /^"/) return ""
      return match(rest, /[^\\]"/) ? substr(rest, 1, RSTART) : ""
    }
    function seconds(moment) { return substr(moment, 12, 2) * 3600 + substr(moment, 15, 2) * 60 + substr(moment, 18, 6) }
    {
      about = get("connector")
      if (get("time") < since || (about != "" && about != connector)) next
      after = seconds(get("time")) - seconds(fault)
      if (after < -43200) after += 86400
      printf "  %s %+8.3f s  %-3s %-22s %s\n", substr(get("time"), 12, 12), after, get("node"), get("kind"), get("message")
    }' "$WORK/events.jsonl"
}
