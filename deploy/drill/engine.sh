# shellcheck shell=bash
# The engine and the stack of deploy/compose.yaml in it: found or started, and taken down if it was started here.
# Knows containers and networks, nothing of feeds, faults and verdicts.

PROJECT=${COMPOSE_PROJECT_NAME:-twinfeed}
IMAGE=${TWINFEED_IMAGE:-twinfeed:local}
NET=${TWINFEED_NET:-10.214}
NODES=(n1 n2 n3)
# The last part of each service's address, the same in every network.
declare -A HOST=([kafka]=10 [n1]=11 [n2]=12 [n3]=13)
declare -A SUBNET=([front]=0 [cluster]=1 [kafka]=2 [feeds]=3)
# Containers by service.
declare -A CONTAINER=()
WORK=
COMPOSE=()
STARTED_STACK=

find_engine() {
  local image
  docker version >/dev/null 2>&1 || give_up "no Docker engine answers"
  if docker compose version >/dev/null 2>&1; then
    COMPOSE=(docker compose)
  elif command -v docker-compose >/dev/null; then
    COMPOSE=(docker-compose)
  else
    give_up "neither 'docker compose' nor docker-compose is installed"
  fi
  for image in "$IMAGE" "${TWINFEED_KAFKA_IMAGE:-apache/kafka:4.3.0}"; do
    docker image inspect "$image" >/dev/null 2>&1 || give_up "the image $image is not there: run deploy/images.sh"
  done
}

compose() { "${COMPOSE[@]}" --project-name "$PROJECT" --file "$HERE/compose.yaml" "$@"; }

# Address of a service in a network.
address() { printf '%s.%s.%s' "$NET" "${SUBNET[$2]}" "${HOST[$1]}"; }

state() { docker inspect --format "$2" "${CONTAINER[$1]}"; }

find_containers() {
  local service filter="label=com.docker.compose.project=$PROJECT"
  for service in kafka "${NODES[@]}"; do
    CONTAINER[$service]=$(docker ps --quiet --filter "$filter" --filter "label=com.docker.compose.service=$service")
    [[ -n ${CONTAINER[$service]} ]] || return 1
  done
}

stack_up() {
  if find_containers; then
    say "using the running cluster of project $PROJECT, which stays"
  else
    local there
    there=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT")
    [[ -z $there ]] || give_up "the cluster of project $PROJECT is half there: start it, or remove it with 'down'"
    say "starting Kafka and three nodes from $IMAGE"
    STARTED_STACK=yes
    compose up --detach kafka "${NODES[@]}" >"$WORK/up.log" 2>&1 ||
      give_up "the cluster does not start: $(tail -n 3 "$WORK/up.log")"
    find_containers || give_up "the cluster has not started: $(compose ps 2>&1)"
  fi
  console_up
  wait_until 90 is_settled || give_up "no leader with three nodes within 90 s: $(ctl status 2>&1)"
}

stack_down() {
  console_down
  [[ -n $STARTED_STACK ]] || return 0
  if [[ -n $KEEP ]]; then
    say "the cluster stays: ${COMPOSE[*]} --project-name $PROJECT --file $HERE/compose.yaml down --volumes"
    return 0
  fi
  compose down --volumes --timeout 1 >"$WORK/down.log" 2>&1 || tail -n 3 "$WORK/down.log" >&2
}

# wait_until SECONDS COMMAND...: asks again until the command succeeds.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.5
  done
}
