# shellcheck shell=bash
# The stories: what each breaks, how it proves it, and how long the topic may be silent. The frame around a story (stage,
# recovery, books) is drill.sh's; docs/drills.md tells them at length.

SCENARIOS=()
declare -A TELLS=() SILENCE_MS_MAX=() CONNECTOR_KEYS=() JUDGE_GAPS=()

# scenario NAME SILENCE_MS_MAX TELLS; `-` where the silence is as long as the fault.
scenario() {
  SCENARIOS+=("$1")
  TELLS[$1]=$3
  [[ $2 == - ]] || SILENCE_MS_MAX[$1]=$2
}

scenario kill-owner 1500 "SIGKILL of the owner, which does not lead Raft"
scenario kill-leader 1500 "SIGKILL of the Raft leader, which owns nothing"
scenario kill-owner-and-leader 1500 "SIGKILL of the node that owns the stream and leads Raft"
scenario pause-owner 4000 "the owner is frozen for 30 s and wakes up as a zombie"
scenario cut-owner-from-peers 4000 "the owner loses its peers for 12 s, and keeps Kafka and the feeds"
scenario cut-owner-from-kafka 4000 "the owner loses Kafka for 12 s, and keeps its peers and the feeds"
scenario cut-owner-from-feeds 4000 "the owner loses both feeds for 12 s, and keeps its peers and Kafka"
scenario restart-broker - "Kafka's only broker is restarted"
scenario rolling-restart 500 "SIGTERM and start of every node, one after the other"
scenario lose-quorum 1500 "SIGKILL of both nodes that do not own the stream: no quorum; then they come back"
scenario cut-feed-a 4000 "feed A is down for 10 s"
scenario cut-both-feeds - "both feeds are down for 5 s: what is lost must be reported as a gap, with bounds"

# A dead connection of a feed is found by pings and the new one not awaited for 30 s; a doubled pause between attempts
# must not outlast the outage.
CONNECTOR_KEYS[cut-owner-from-feeds]="twinfeed.websocket.ping.interval.ms=1500 twinfeed.websocket.pong.timeout.ms=1500
  websocket.connection.timeout.ms=2000"
CONNECTOR_KEYS[cut-both-feeds]="websocket.reconnect.backoff.max.ms=500"
JUDGE_GAPS[cut-both-feeds]=yes

list() {
  local name
  for name in "${SCENARIOS[@]}"; do
    printf '%-22s %s\n' "$name" "${TELLS[$name]}"
  done
}

# Moves the stream until its owner leads Raft, or does not.
arrange() {
  local leads node
  leads=$(leader)
  look || return 1
  for node in "${NODES[@]}"; do
    case $1 in
    owner-leads) [[ $OWNER != "$leads" ]] || return 0 && node=$leads ;;
    owner-follows) [[ $OWNER == "$leads" ]] || return 0 && [[ $node != "$leads" ]] || continue ;;
    esac
    ctl connector failover "$CONNECTOR" --to-node "$node" >/dev/null &&
      wait_until "$RECOVERY_S_MAX" is_redundant && look || invalid "the stream could not be moved to $node" || return
    step "moved to $node, so that the roles are as the scenario wants them"
    return 0
  done
}

# On a small machine, asking every moment would delay what it asks for.
look_away() { sleep 2; }

# Seconds of a fault that lasts.
lasting() { step "for $1 s" && sleep "$1"; }

# replaced NODE EPOCH: another one owns the stream.
replaced() {
  look_away
  wait_until 30 has_new_owner "$2" || broken "$1 was not replaced as owner" || return
  step "$OWNER owns it now, at epoch $EPOCH"
}

story_kill_owner() {
  arrange owner-follows || return
  local victim=$OWNER epoch=$EPOCH
  fault "kill -9 of $victim, the owner"
  kill_node "$victim" && replaced "$victim" "$epoch" && noticed "$victim"
}

story_kill_leader() {
  arrange owner-follows || return
  local victim
  victim=$(leader)
  fault "kill -9 of $victim, the Raft leader; $OWNER owns the stream"
  kill_node "$victim" && noticed "$victim"
}

story_kill_owner_and_leader() {
  arrange owner-leads || return
  local victim=$OWNER epoch=$EPOCH
  fault "kill -9 of $victim, owner and Raft leader"
  kill_node "$victim" && replaced "$victim" "$epoch" && noticed "$victim"
}

# Down until the others have noticed: a process that is back at once is a lesser fault.
noticed() {
  look_away
  wait_until 30 is_noticed "$1" || broken "nobody noticed that $1 is down"
}

story_pause_owner() {
  local victim=$OWNER epoch=$EPOCH
  fault "freeze $victim, the owner"
  freeze_node "$victim" && lasting 30 && replaced "$victim" "$epoch" || return
  thaw_node "$victim" && step "$victim goes on, a zombie"
}

# Cuts the owner off one network; it must be replaced where it cannot do its work without it.
story_cut() {
  local network=$1 victim=$OWNER epoch=$EPOCH
  fault "disconnect $victim, the owner, from the network $network"
  # It would answer from a state of its own.
  UNASKED+=" $victim"
  cut_node "$victim" "$network" && prove_cut "$victim" "$network" && lasting 10 || return
  case $network in
  cluster | kafka) replaced "$victim" "$epoch" ;;
  feeds) save_events && noticed_loss "$victim" ;;
  esac
}

noticed_loss() {
  grep '"kind":"subscription.lost"' "$WORK/events.jsonl" | grep "\"connector\":\"$CONNECTOR\"" | grep -q "\"node\":\"$1\"" ||
    broken "$1 did not notice its half-open subscription"
}

story_cut_owner_from_peers() { story_cut cluster; }
story_cut_owner_from_kafka() { story_cut kafka; }
story_cut_owner_from_feeds() { story_cut feeds; }

story_restart_broker() {
  local before
  before=$(state kafka '{{.State.StartedAt}}')
  fault "restart of Kafka's broker"
  docker restart --time 30 "${CONTAINER[kafka]}" >/dev/null
  [[ $(state kafka '{{.State.StartedAt}}') != "$before" ]] || invalid "the broker was not restarted" || return
  step "the broker's process is new; it was stopped and started in $(($(now_ms) - FAULT_AT)) ms"
  look || true
  wait_until 60 has_written $((WRITTEN + 5 * RATE)) || broken "nothing is written 60 s after the restart of the broker"
}

has_written() { look && ((WRITTEN >= $1)); }

story_rolling_restart() {
  local node
  for node in "${NODES[@]}"; do
    look || invalid "no roles" || return
    if [[ -z $FAULT_AT ]]; then
      fault "SIGTERM of $node, $OWNER owns the stream, $(leader) leads"
    else
      step "SIGTERM of $node, $OWNER owns the stream, $(leader) leads"
    fi
    stop_node "$node" && start_node "$node" || return
    wait_until "$RECOVERY_S_MAX" is_settled && wait_until "$RECOVERY_S_MAX" is_redundant ||
      broken "not redundant again within $RECOVERY_S_MAX s after the restart of $node" || return
  done
}

story_lose_quorum() {
  local node owner=$OWNER epoch=$EPOCH
  fault "kill -9 of both nodes but $owner, the owner"
  for node in "${NODES[@]}"; do
    [[ $node == "$owner" ]] || kill_node "$node" || return
  done
  if ctl connector create "$CONNECTOR-ghost" --topic ghost --url "ws://$FEED_ADDRESS:8000/a" --timeout 4s >/dev/null 2>&1; then
    ctl connector delete "$CONNECTOR-ghost" --yes >/dev/null 2>&1 || true
    invalid "a change was accepted: there is a quorum" || return
  fi
  step "proven: a change is refused, there is no quorum"
  lasting 5
  for node in "${NODES[@]}"; do
    [[ $node == "$owner" ]] || start_node "$node" || return
  done
  wait_until "$RECOVERY_S_MAX" is_settled || return
  look && ((EPOCH >= epoch)) && step "$OWNER owns it at epoch $EPOCH"
}

story_cut_feed_a() {
  fault "feed A is down"
  feeds_down a && lasting 10 && feeds_up a
}

story_cut_both_feeds() {
  fault "both feeds are down"
  feeds_down a b && lasting 5 && feeds_up a b
}
