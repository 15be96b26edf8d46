#!/usr/bin/env bash
# Breaks a cluster of deploy/compose.yaml on purpose, under traffic, and says whether the promise held.
#
#   deploy/drill.sh [OPTION]... SCENARIO... | all
#   deploy/drill.sh --list             one scenario a line
#
#   --rate N     messages a second on each side of the feed (1000)
#   --runs N     each scenario so many times (1)
#   --lenient    do not judge how long the topic was silent: for debug builds and busy machines
#   --keep       leave the cluster running that was started for the drills
#
# Each run ends with the verifier's line and `PASS|FAIL|INVALID scenario: reason`. INVALID: the fault or the traffic was
# not proven, so the run says nothing. Exit code 0: all PASS; 1: a FAIL; 2: no FAIL, but an INVALID, or no run at all.
# A running cluster of the project is used and left running; otherwise one is started, and removed with its volumes.
# COMPOSE_PROJECT_NAME, TWINFEED_IMAGE, TWINFEED_NET and TWINFEED_HOST mean what they mean to Compose. docs/drills.md
# explains each scenario. Needs a Docker engine with the images (deploy/images.sh), Compose, and bash 5.
set -euo pipefail
export LC_ALL=C TZ=UTC

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RATE=1000
RUNS=1
LENIENT=
KEEP=

usage() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; }
say() { printf '%s\n' "$*"; }
step() { printf '  %s\n' "$*"; }
give_up() {
  printf 'drill: %s\n' "$*" >&2
  exit 2
}

# shellcheck source=deploy/drill/engine.sh
. "$HERE/drill/engine.sh"
# shellcheck source=deploy/drill/cluster.sh
. "$HERE/drill/cluster.sh"
# shellcheck source=deploy/drill/stage.sh
. "$HERE/drill/stage.sh"
# shellcheck source=deploy/drill/faults.sh
. "$HERE/drill/faults.sh"
# shellcheck source=deploy/drill/scenarios.sh
. "$HERE/drill/scenarios.sh"

# Undoes everything, however the drill ends; a second Ctrl-C does not stop it from doing so.
clean_up() {
  trap '' INT TERM
  heal || true
  strike_stage || true
  stack_down || true
  rm -rf "$WORK"
}

# Plays one scenario; leaves VERDICT, REASON and BOOKS.
play() {
  local scenario=$1
  VERDICT=PASS REASON='' BOOKS='' FAULT_AT=''
  say
  say "== $scenario: ${TELLS[$scenario]}"
  if set_stage "$scenario"; then
    # A fault that went wrong has said why; the books are closed all the same, to be looked at.
    "story_${scenario//-/_}" || true
    heal || invalid "the fault could not be undone" || true
    recover || true
    close_books "$scenario" || true
  fi
  strike_stage
  [[ -z $BOOKS ]] || say "$BOOKS"
  say "$VERDICT $scenario: ${REASON:-$PROMISE}"
}

row() { printf '%-8s %-22s %4s %10s %5s %7s %5s %4s  %s' "$@"; }

main() {
  local scenarios=() table=() scenario run began worst=0
  while (($#)); do
    case $1 in
    --list)
      list
      exit 0
      ;;
    --rate) RATE=${2:?--rate needs a number} && shift ;;
    --runs) RUNS=${2:?--runs needs a number} && shift ;;
    --lenient) LENIENT=yes ;;
    --keep) KEEP=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    all) scenarios+=("${SCENARIOS[@]}") ;;
    *)
      [[ -n ${TELLS[$1]:-} ]] || give_up "no scenario is called $1; see --list"
      scenarios+=("$1")
      ;;
    esac
    shift
  done
  ((${#scenarios[@]})) || give_up "which scenario? See --list and --help"

  find_engine
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/twinfeed-drill.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  stack_up
  for scenario in "${scenarios[@]}"; do
    for ((run = 1; run <= RUNS; run++)); do
      began=$SECONDS
      play "$scenario"
      table+=("$(row "$VERDICT" "$scenario" $((SECONDS - began)) "$(book longest_silence_ms)" \
        "${SILENCE_MS_MAX[$scenario]:--}" "$(book sent)" "$(book lost)" "$(book duplicated)" "$REASON")")
      case $VERDICT in
      FAIL) worst=1 ;;
      INVALID) ((worst == 1)) || worst=2 ;;
      esac
    done
  done
  if ((${#table[@]} > 1)); then
    say
    printf '%s\n' "$(row verdict scenario s silence_ms max sent lost dup reason)"
    printf '%s\n' "${table[@]}"
  fi
  return "$worst"
}

# Read whole before anything runs: the file may be edited meanwhile.
main "$@"
