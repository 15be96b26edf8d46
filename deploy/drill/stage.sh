# shellcheck shell=bash
# What a scenario plays on: a feed, a connector and a verifier of its own; then recovery, the books and the verdict.

FEED=$PROJECT-drill-feed
VERIFIER=$PROJECT-drill-verifier
FEED_ADDRESS=$NET.${SUBNET[feeds]}.21
PROMISE="nothing lost, doubled or out of order"
# Fewer records a second before a fault prove nothing.
FLOW_MIN=100
RECOVERY_S_MAX=90
# Traffic after a recovery: what a late writer would still do shows in the books.
AFTERMATH_S=4
# Findings of the verifier that are shown.
FINDINGS_MAX=5
CONNECTOR=
VERDICT=
REASON=
BOOKS=
FAULT_AT=

# The run says nothing. A FAIL stays one.
invalid() {
  [[ $VERDICT == FAIL || $VERDICT == INVALID ]] || VERDICT=INVALID REASON=$*
  return 1
}

# The promise is broken.
broken() {
  [[ $VERDICT == FAIL ]] || REASON=
  VERDICT=FAIL
  REASON+=${REASON:+; }$*
  return 1
}

# book NAME: a figure of the verifier's line.
book() {
  [[ $BOOKS =~ (^| )$1=([0-9]+) ]] && printf '%s' "${BASH_REMATCH[2]}" || printf -- '-'
}

# feed METHOD PATH: a request to the feed; its answer.
feed() {
  docker exec "$CONSOLE" bash -c 'exec 3<>"/dev/tcp/$1/8000"
    printf "%s /%s HTTP/1.1\r\nHost: feed\r\nConnection: close\r\n\r\n" "$2" "$3" >&3; cat <&3' _ "$FEED_ADDRESS" "$1" "$2"
}

# Tells the feed to do something.
order() { [[ $(feed POST "$1") == "HTTP/1.1 200 "* ]]; }

# Connections of the feed that have ended so far.
ended_connections() { feed GET ledger | grep -o '"ended":"' | wc -l; }

is_flowing() { look && ((${FLOW:-0} >= FLOW_MIN)); }

# Feed, connector and verifier, redundant and with traffic.
set_stage() {
  local scenario=$1 pair options=()
  UNASKED=
  CONNECTOR=drill-$scenario-$(now_ms)
  for pair in websocket.reconnect.interval.ms=200 ${CONNECTOR_KEYS[$scenario]:-}; do
    options+=(--config "$pair")
  done
  step "feed A and B: $RATE messages a second each, 30 % repeats; connector and topic $CONNECTOR"
  docker run --detach --name "$FEED" --no-healthcheck --network "${PROJECT}_feeds" --ip "$FEED_ADDRESS" "$IMAGE" \
    feed --listen 0.0.0.0:8000 --rate "$RATE" --repeats 0.3 --skew-ms 20 --jitter-ms 3 --wait-subscribers 2 \
    >/dev/null || invalid "the feed does not start" || return
  docker create --name "$VERIFIER" --no-healthcheck --network "${PROJECT}_kafka" "$IMAGE" verify --follow --quiet \
    --bootstrap "$(address kafka kafka):9092" --topic "$CONNECTOR" --feed "http://$FEED_ADDRESS:8000" \
    --topic-wait-ms 60000 ${JUDGE_GAPS[$scenario]:+--gaps /tmp/events.jsonl} >/dev/null &&
    docker network connect "${PROJECT}_feeds" "$VERIFIER" && docker start "$VERIFIER" >/dev/null ||
    invalid "the verifier does not start" || return
  ctl connector create "$CONNECTOR" --topic "$CONNECTOR" --url "ws://$FEED_ADDRESS:8000/a" \
    --secondary-url "ws://$FEED_ADDRESS:8000/b" "${options[@]}" >/dev/null ||
    invalid "the connector could not be created" || return
  wait_until "$RECOVERY_S_MAX" is_redundant || invalid "the stream did not become redundant before the fault" || return
  wait_until 30 is_flowing || invalid "fewer than $FLOW_MIN records a second before the fault" || return
  step "$OWNER owns it at epoch $EPOCH, $STANDBY stands by, $(leader) leads; $FLOW records a second"
}

# fault TEXT: it begins now.
fault() {
  FAULT_AT=$(now_ms)
  step "$(moment "$FAULT_AT" | cut -c 12-23) fault: $*"
}

# One leader, three nodes, a redundant stream, without an operator.
recover() {
  [[ -n $FAULT_AT ]] || return 0
  UNASKED=
  local since=$SECONDS
  wait_until "$RECOVERY_S_MAX" is_settled || broken "no leader with three nodes within $RECOVERY_S_MAX s" || return
  wait_until "$RECOVERY_S_MAX" is_redundant || broken "not redundant again within $RECOVERY_S_MAX s" || return
  step "one leader, three nodes and a redundant stream $((SECONDS - since)) s after the fault was undone; $(leader) leads"
  sleep "$AFTERMATH_S"
}

# Ends the feed, has the verifier judge, and judges the verifier's figures.
close_books() {
  local scenario=$1 code silence
  [[ -n $FAULT_AT ]] || invalid "there was no fault" || return
  save_events || invalid "the events cannot be read" || return
  print_events
  docker cp "$WORK/events.jsonl" "$VERIFIER:/tmp/events.jsonl" >/dev/null 2>&1 && order finish ||
    invalid "the feed could not be ended" || return
  wait_until 90 has_ended "$VERIFIER" || invalid "the verifier did not end" || return
  docker logs "$VERIFIER" >"$WORK/books" 2>"$WORK/verifier.log" || true
  code=$(docker inspect --format '{{.State.ExitCode}}' "$VERIFIER")
  BOOKS=$(grep '^sent=' "$WORK/books") || invalid "the verifier gave no figures: $(tail -n 1 "$WORK/verifier.log")" || return
  sed -n 's/^  /  verifier: /p' "$WORK/books" | head -n "$FINDINGS_MAX"
  ((code == 0)) || broken "$(what_is_wrong)" || true
  silence=$(book longest_silence_ms)
  if [[ -z $LENIENT && -n ${SILENCE_MS_MAX[$scenario]:-} ]] && ((silence > SILENCE_MS_MAX[$scenario])); then
    broken "the topic was silent for $silence ms, more than ${SILENCE_MS_MAX[$scenario]}" || true
  fi
  if [[ -n ${JUDGE_GAPS[$scenario]:-} && $VERDICT == PASS ]]; then
    (($(book missing_runs) > 0)) || invalid "no message is missing: the feeds were not both down" || return
    REASON="all that is missing lies in $(book reported_gaps) reported gaps; nothing doubled or out of order"
  fi
}

has_ended() { [[ $(docker inspect --format '{{.State.Status}}' "$1") == exited ]]; }

# The verifier's figures that should be 0, or its first finding.
what_is_wrong() {
  local name value wrong=
  for name in lost duplicated reordered zombies sequence_breaks; do
    value=$(book "$name")
    [[ $value == 0 || $value == - ]] || wrong+=", $value $name"
  done
  [[ -n $wrong ]] || wrong=", $(sed -n '2s/^ *//p' "$WORK/books")"
  printf '%s' "${wrong#, }"
}

# Removes what `set_stage` made; the topic stays, as Kafka's clean-up is nobody's here.
strike_stage() {
  docker rm --force --volumes "$FEED" "$VERIFIER" >/dev/null 2>&1 || true
  [[ -z $CONNECTOR ]] || ctl connector delete "$CONNECTOR" --yes >/dev/null 2>&1 || true
  CONNECTOR=
}
