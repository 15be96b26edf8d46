# shellcheck shell=bash
# Faults of containers and networks, each with the proof that it happened, and the way back from all of them. A fault is
# written down before it is made, so that `heal` undoes it whenever the drill ends.

declare -A STOPPED=() FROZEN=() CUT=() FEED_DOWN=()

# Where a node finds its peers.
peers_of() {
  local node
  for node in "${NODES[@]}"; do
    [[ $node == "$1" ]] || printf '%s:7400 ' "$(address "$node" cluster)"
  done
}

kill_node() {
  STOPPED[$1]=yes UNASKED+=" $1"
  docker kill --signal KILL "${CONTAINER[$1]}" >/dev/null
  wait_until 10 has_died "$1" 137 || invalid "$1 was not killed: $(state "$1" '{{.State.Status}}')"
}

# SIGTERM, and an end with code 0.
stop_node() {
  STOPPED[$1]=yes UNASKED+=" $1"
  docker stop --time 30 "${CONTAINER[$1]}" >/dev/null
  has_died "$1" 0 || broken "$1 ended with $(state "$1" '{{.State.ExitCode}}') after SIGTERM"
}

# has_died SERVICE CODE
has_died() { [[ $(state "$1" '{{.State.Status}} {{.State.ExitCode}}') == "exited $2" ]]; }

start_node() {
  docker start "${CONTAINER[$1]}" >/dev/null || return 1
  unset "STOPPED[$1]"
  UNASKED=${UNASKED/ $1/}
}

freeze_node() {
  FROZEN[$1]=yes UNASKED+=" $1"
  docker pause "${CONTAINER[$1]}" >/dev/null
  [[ $(state "$1" '{{.State.Paused}}') == true ]] || invalid "$1 is not paused"
}

thaw_node() {
  docker unpause "${CONTAINER[$1]}" >/dev/null || return 1
  unset "FROZEN[$1]"
  UNASKED=${UNASKED/ $1/}
}

# cut_node NODE NETWORK: takes its interface away; its connections stay open and hear nothing.
cut_node() {
  CUT["$1 $2"]=yes
  docker network disconnect "${PROJECT}_$2" "${CONTAINER[$1]}"
}

join_node() {
  docker network connect --ip "$(address "$1" "$2")" "${PROJECT}_$2" "${CONTAINER[$1]}" || return 1
  unset "CUT[$1 $2]"
}

# What a node uses in a network, as address:port.
targets() {
  case $2 in
  cluster) peers_of "$1" ;;
  kafka) printf '%s:9092 ' "$(address kafka kafka)" ;;
  feeds) printf '%s:8000 ' "$FEED_ADDRESS" ;;
  esac
}

# reaches NODE ADDRESS:PORT: whether it can connect, within a second.
reaches() { docker exec "${CONTAINER[$1]}" timeout 1 bash -c ": >/dev/tcp/${2%:*}/${2##*:}" 2>/dev/null; }

# prove_cut NODE NETWORK: nothing there is reached, and everything elsewhere is.
prove_cut() {
  local network target
  for network in cluster kafka feeds; do
    for target in $(targets "$1" "$network"); do
      if [[ $network == "$2" ]]; then
        ! reaches "$1" "$target" || invalid "$1 still reaches $target" || return
      else
        reaches "$1" "$target" || invalid "$1 does not reach $target any more, which was not cut" || return
      fi
    done
  done
  step "proven: $1 reaches $(targets "$1" "$2")no more, and all others"
}

# feed_down PATH...: closes its connections and accepts none. Proven by the feed's own ledger.
feeds_down() {
  local before path
  before=$(ended_connections)
  for path in "$@"; do
    FEED_DOWN[$path]=yes
    order "down/$path" || invalid "the feed did not go down" || return
  done
  wait_until 5 have_ended $((before + $#)) || invalid "a subscription outlived its feed"
}

have_ended() { (($(ended_connections) >= $1)); }

feeds_up() {
  local path
  for path in "$@"; do
    order "up/$path" || return 1
    unset "FEED_DOWN[$path]"
  done
}

# Undoes whatever is still broken.
heal() {
  local key well=0
  for key in "${!FEED_DOWN[@]}"; do feeds_up "$key" || well=1; done
  for key in "${!FROZEN[@]}"; do thaw_node "$key" || well=1; done
  # shellcheck disable=SC2086 # node and network are two words
  for key in "${!CUT[@]}"; do join_node $key || well=1; done
  for key in "${!STOPPED[@]}"; do start_node "$key" || well=1; done
  return "$well"
}
