#!/usr/bin/env bash
# Sees to it that the images of deploy/compose.yaml are there. What the engine has is left alone, what can be pulled is
# pulled; otherwise a base image is made with debootstrap and Kafka's from its Maven jars, under the official names.
#
#   deploy/images.sh                    Twinfeed itself is compiled in a container
#   deploy/images.sh --binaries DIR     Twinfeed is the `twinfeed` and `wsctl` in DIR, stripped on the way
#
# DEBIAN_MIRROR names the mirror for debootstrap; by default it is the first one of this machine's apt. Proxies are taken
# from the usual variables. Making the base image needs root and debootstrap; Kafka's needs mvn, or jars in JARS. Exit
# code 69: this machine has no way to an image.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

debian=debian:bookworm-slim
kafka=apache/kafka:4.3.0
image=${TWINFEED_IMAGE:-twinfeed:local}
pom=$here/../chaos-tests/pom.xml

usage() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; }
say() { printf 'images: %s\n' "$*"; }
fail() {
  printf 'images: %s\n' "$*" >&2
  exit 1
}
# This machine has no way to an image.
unavailable() {
  printf 'images: %s\n' "$*" >&2
  exit 69
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/twinfeed-images.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log
work=$scratch/work

new_work() {
  rm -rf "$work"
  mkdir "$work"
}

# Whether the engine has the image, or has it after this.
present() {
  if docker image inspect "$1" >/dev/null 2>&1; then
    say "$1 is there"
  elif docker pull --quiet "$1" >/dev/null 2>&1; then
    say "$1 was pulled"
  else
    say "$1 cannot be pulled and is built here"
    return 1
  fi
}

# Builds with the network and the proxies of this machine: a bridge may have no way out.
build() {
  local arguments=(--network host) name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name")
  done
  docker build "${arguments[@]}" "$@" >"$log" 2>&1
}

mirror() {
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then
    printf '%s\n' "$DEBIAN_MIRROR"
  elif command -v apt-get >/dev/null; then
    # The first one that has the release; on other Debians and Ubuntus there is none.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | sed -n '1s|/$||p'
  fi
}

build_debian() {
  local from
  ((EUID == 0)) || unavailable "debootstrap needs root to make $debian"
  command -v debootstrap >/dev/null || unavailable "debootstrap is not installed: apt-get install debootstrap"
  from=$(mirror)
  new_work
  debootstrap --variant=minbase bookworm "$work/root" "${from:-http://deb.debian.org/debian}" >"$log" 2>&1 ||
    unavailable "debootstrap failed: $(tail -n 1 "$log")"
  # As in the official slim image: no documentation, no translations, no package lists.
  rm -rf "$work"/root/var/{cache/apt,lib/apt/lists,log}/* "$work"/root/usr/share/{doc,man,info,locale}/*
  tar -C "$work/root" -c . | docker import --change 'CMD ["bash"]' - "$debian" >/dev/null
}

build_kafka() {
  new_work
  mkdir "$work/jars"
  local cached=${JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/twinfeed/kafka-${kafka##*:}}
  if [[ -d $cached ]]; then
    cp "$cached"/*.jar "$work/jars/"
  else
    command -v mvn >/dev/null || unavailable "mvn is not installed, and there are no jars in $cached: set JARS"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" ||
      unavailable "mvn could not fetch Kafka"
  fi
  cp "$here/kafka/start-kafka" "$work/"
  # It installs a Java runtime from the mirror, which may be out of reach.
  build --file "$here/kafka/Dockerfile" --tag "$kafka" "$work" || unavailable "$kafka cannot be built: $(tail -n 1 "$log")"
}

build_twinfeed() {
  local root revision
  root=$(cd "$here/.." && pwd)
  revision=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
  if [[ -z $1 ]]; then
    build --file "$here/Dockerfile" --build-arg REVISION="$revision" --tag "$image" "$root" ||
      fail "the build of $image failed: $(tail -n 20 "$log")"
    return
  fi
  new_work
  local binary
  for binary in twinfeed wsctl; do
    strip -o "$work/$binary" "$1/$binary" || fail "no usable $1/$binary"
    chmod 0755 "$work/$binary"
  done
  build --file "$here/Dockerfile" --target prebuilt --build-arg REVISION="$revision" --tag "$image" "$work" ||
    fail "the build of $image failed: $(tail -n 20 "$log")"
}

binaries=
while (($#)); do
  case $1 in
  --binaries)
    binaries=${2:?--binaries needs a directory}
    shift 2
    ;;
  -h | --help)
    usage
    exit
    ;;
  *) fail "unknown argument $1; see --help" ;;
  esac
done

docker version >/dev/null 2>&1 || unavailable "no Docker engine answers"
present "$debian" || build_debian
present "$kafka" || build_kafka
build_twinfeed "$binaries"
size() { docker image inspect --format '{{.Size}}' "$1"; }
above=$(($(size "$image") - $(size "$debian")))
say "$image is built: $((above / 1000000)) MB above $debian"
