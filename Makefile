# make demo   sets everything up and shows the main job on an embedded cluster and S3 server
# make test   sets everything up and runs every test
# make bench  measures the loads beside COPY and others
# make soak   loads for minutes while S3 fails and processes are killed
# make crowd  has producers, calls, sweeps, a backfill and commands meet at a few objects
# make fuzz   tries hostile files and statements
# make help   lists the rest

PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
PGDATA_TEST ?= $(or $(TMPDIR),/tmp)/btc_ingest-pgrx-test
export PG_CONFIG
# cargo-pgrx installs with rustc flags of its own and tests without: every dependency would be built twice. Set, if only
# to nothing, the environment's flags win; build.rs passes the one argument that the library needs.
export CARGO_ENCODED_RUSTFLAGS =

# PostgreSQL refuses to run as root, and with another user pgrx installs through sudo.
RUNAS = --runas postgres --pgdata $(PGDATA_TEST)

.NOTPARALLEL:

.PHONY: help demo demo-down test lint test-core test-pg test-blackbox test-infra test-host test-host-quick test-memory
.PHONY: test-fanout test-fanout-quick time-host deb bootstrap install bench soak crowd fuzz clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

bootstrap: ## installs what is missing of PostgreSQL 15, TimescaleDB, pgvector and cargo-pgrx
	@scripts/bootstrap.sh

demo: bootstrap install ## loads two hours of generated ticks and shows them
	cargo run -q -p btc_ingest_kit --bin btc-ingest-demo -- up

demo-down: ## ends the demo
	cargo run -q -p btc_ingest_kit --bin btc-ingest-demo -- down

install: ## builds the extension and installs it into PostgreSQL 15
	@scripts/install.sh

test: bootstrap test-core test-pg test-blackbox ## every test

lint: bootstrap ## formatting, the rules of lint/, dependencies, clippy on everything, rustdoc
	cargo fmt --all -- --check
	cargo run -q -p btc_ingest_lint
	cargo test -q -p btc_ingest_lint
	@scripts/lint_tools.sh
	cargo deny --workspace --offline check bans licenses sources
	cargo clippy -q -p btc_ingest_lint --all-targets -- -D warnings
	cargo clippy -q -p btc_ingest --no-default-features --lib --tests -- -D warnings
	cargo clippy -q -p btc_ingest --lib --tests --features pg_test -- -D warnings
	cargo clippy -q -p btc_ingest_kit -p btc_ingest_tests --all-targets -- -D warnings
	cargo clippy -q -p btc_ingest_bench --all-targets --target-dir target/bench -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc -q -p btc_ingest --no-deps --document-private-items

test-core: ## the pure core, without PostgreSQL
	cargo test -p btc_ingest --no-default-features --lib

test-pg: ## what needs a backend
	@scripts/unshare.sh
	cargo pgrx test pg15 --package btc_ingest $(RUNAS)

test-blackbox: install ## a real cluster and a real S3 server
	@scripts/blackbox.sh

deb: bootstrap ## packages the extension as postgresql-15-btc-ingest; DEB=--debug packages the development build
	@scripts/deb.sh $(DEB)

test-host: bootstrap ## sets up a Debian 12 from nothing and from a bundle, without a network, and loads
	@infra/tests/test_host.sh

test-host-quick: bootstrap ## the first part of it: a damaged bundle, the setup, clients, one slice
	@infra/tests/test_host.sh --quick

time-host: bootstrap ## measures a host from nothing and from its backup; TICKS=6000000
	@infra/tests/test_host.sh --times

test-memory: bootstrap install ## loads with the memory of a t3.medium; MEMORY_MB and TICKS change it
	@infra/tests/test_memory.sh

test-fanout: bootstrap install ## the Spark job and the Airflow DAG with 2,000 slices, with kills; needs Java and PyPI
	@infra/tests/test_fanout.sh

test-fanout-quick: bootstrap install ## the same with 200 slices and no kill
	@infra/tests/test_fanout.sh --quick

test-infra: ## what infra/database promises: Terraform, scripts
	@infra/tests/run.sh

# A target directory of its own: the bench depends on the crate's core, and cargo would put the core's shared library
# where the extension's stands.
BENCH ?= --out bench/RESULTS.md
bench: bootstrap ## measures the loads; BENCH='--ticks 100000 --runs 1' passes options, bench/README.md lists them
	@scripts/install.sh --release --features bench
	@cargo run --release --target-dir target/bench -p btc_ingest_bench -- $(BENCH); status=$$?; \
	echo 'The installed library is a release build now; "make install" puts the development build back.'; exit $$status

# SOAK='--minutes 5 --seed 7' passes options.
soak: bootstrap install ## loads for ten minutes while S3 fails and processes are killed
	cargo run -q -p btc_ingest_kit --bin btc-ingest-soak -- $(SOAK)

# CROWD='--minutes 5 --seed 7' passes options.
crowd: bootstrap install ## all that loads and registers meets at a few objects for ten minutes
	cargo run -q -p btc_ingest_kit --bin btc-ingest-crowd -- $(CROWD)

# FUZZ_MINUTES=60 is half an hour for files and as long for statements; FUZZ_SEED=7 is the first case of each.
FUZZ_MINUTES ?= 20
FUZZ_SEED ?= 1
FUZZ_HALF = $(shell awk 'BEGIN { print $(FUZZ_MINUTES) / 2 }')
fuzz: bootstrap install ## tries hostile files and statements for twenty minutes
	FUZZ_MINUTES=$(FUZZ_HALF) FUZZ_SEED=$(FUZZ_SEED) \
	cargo test -q -p btc_ingest --no-default-features --lib fuzz:: -- --nocapture
	cargo run -q -p btc_ingest_kit --bin btc-ingest-fuzz -- --minutes $(FUZZ_HALF) --seed $(FUZZ_SEED)

clean: ## removes what was built
	cargo clean
