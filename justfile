# Recipes of the project; `just` alone lists them. `verify` never writes to the tree, `fix` does.

_default:
    @just --list --unsorted

# Everything a change must pass
verify: fmt-check clippy scripts test doc deny alerts

# Formats, and applies what clippy can fix by itself
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# Writes what is generated: docs/wsctl.md, docs/twinfeed.md, and parts of docs/configuration.md, docs/testing.md, README.md
docs:
    TWINFEED_WRITE_DOCS=1 cargo test -q -p twinfeed-ctl --bin wsctl the_document_has_not_drifted
    TWINFEED_WRITE_DOCS=1 cargo test -q -p twinfeed-node --bin twinfeed the_document_has_not_drifted
    TWINFEED_WRITE_DOCS=1 cargo test -q -p twinfeed-node --lib the_document_has_not_drifted
    TWINFEED_WRITE_DOCS=1 cargo test -q -p twinfeed-chaos --lib the_tables_have_not_drifted

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p twinfeed-node --features faults --all-targets -- -D warnings

# All tests; those of Kafka start a broker of their own, see docs/testing.md
test:
    cargo test --workspace
    cargo test -p twinfeed-dedup --features faults --test takeover_simulation each_

# Only the rules of the house: levels, sizes, the single spawner
layering:
    cargo test -q -p twinfeed-node --test layering

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Licences, bans, sources; advisories too where the database can be fetched
deny:
    cargo deny check bans licenses sources

# Alert rules and their tests; skipped without promtool
alerts:
    @if command -v promtool >/dev/null; then cd deploy/alerts && promtool check rules alert-rules.yml && promtool test rules alert-rules-test.yml; else echo "promtool is not installed: alert rules not checked"; fi

# The shell scripts and Dockerfiles of deploy/; skipped without shellcheck and hadolint
scripts:
    @if command -v hadolint >/dev/null; then hadolint deploy/Dockerfile deploy/kafka/Dockerfile; else echo "hadolint is not installed: Dockerfiles not checked"; fi
    @if command -v shellcheck >/dev/null; then shellcheck -x deploy/*.sh deploy/kafka/start-kafka; else echo "shellcheck is not installed: scripts not checked"; fi

# A cluster, a feed and a takeover on this machine
demo:
    cargo run --bin twinfeed -- demo

# One failover story against a real broker, such as `just chaos kill-owner --runs 20`; `just chaos list` names them
chaos STORY *ARGS:
    cargo build --release --workspace --bins
    target/release/chaos {{STORY}} {{ARGS}}

# The drills of docs/drills.md in a container engine, such as `just drills kill-owner`; all of them without a name
drills *SCENARIOS="all":
    cargo build --release -p twinfeed-node --bin twinfeed -p twinfeed-ctl --bin wsctl
    deploy/images.sh --binaries target/release
    deploy/drill.sh {{SCENARIOS}}

# Random faults, two or three at once, for so long; each stage with the next seed
soak *ARGS:
    cargo build --release --workspace --bins
    target/release/chaos soak {{ARGS}}

# The takeover simulation with more seeds
simulate SEEDS="10000":
    TWINFEED_SEEDS={{SEEDS}} cargo test -p twinfeed-dedup --test takeover_simulation -- --nocapture
