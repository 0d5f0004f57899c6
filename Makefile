# The commands of this repository; `make` alone lists them.

.POSIX:

# Programs and tests in one go. What tests alone need of a library is a feature of it; programs that
# are built by themselves do without, and everything above it is compiled twice.
BUILD = cargo build --workspace --bins --tests --locked

# Some tests mostly wait for others: half as many again as there are processors keep them busy.
TEST = RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2))} \
	sh tests/with-test-data.sh cargo test --workspace --locked

.PHONY: help demo test chaos bugs previous deaf ha check bench postgres pgbouncer schemathesis shopify patroni

# list these commands
help:
	@awk '/^# / { text = substr($$0, 3) } \
		/^[a-z]+:/ { sub(":.*", ""); printf "make %-13s %s\n", $$0, text }' Makefile

# run the demo, on a private Postgres unless DATABASE_URL is set; ARGS="--help" for its options
demo: postgres
	cargo build --locked --bin amends
	cargo run --quiet --locked --bin amends -- demo $(ARGS)

# run every test, and four minutes of chaos, on private Postgres servers
test: postgres pgbouncer schemathesis shopify
	$(BUILD)
	$(TEST)
	AMENDS_TEST_HINTS=off $(TEST) --test it -- process:: a_running_process
	"$${CARGO_TARGET_DIR:-target}/debug/chaos"

# break real servers and judge them; ARGS="--seed 7 --orders 40000" for an hour of it
chaos: postgres
	cargo run --quiet --locked --bin chaos -- $(ARGS)

# have the chaos program notice bugs on purpose, one after the other; ARGS="--help" for its options
bugs: postgres
	cargo run --quiet --locked -p amends-tests --features sabotage --bin chaos -- bugs $(ARGS)

# break servers of this build and of the commit before on one database; PREVIOUS=v1.2 for another one
previous: postgres
	sh tests/build-previous.sh "$${PREVIOUS:-HEAD^}"
	cargo run --quiet --locked --bin chaos -- --beside target/previous/chaos $(ARGS)

# run every test on databases that pass on no hint from one process to another
deaf: postgres pgbouncer schemathesis shopify
	$(BUILD)
	AMENDS_TEST_HINTS=off $(TEST)

# run on Postgres under Patroni and take it away in every way, before a release; ARGS="--help"
ha: postgres patroni
	cargo build --locked --bin amends --bin ha
	cargo run --quiet --locked --bin ha -- $(ARGS)

# check everything that CI checks: format, lints, documentation, tests
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps --locked
	$(MAKE) test

# tell what an order costs, built for release; ARGS="--help" for its options
bench: postgres
	cargo run --release --quiet --locked --bin amends -- bench $(ARGS)

# make sure there is a Postgres to run on; installs one with the system's package manager
postgres:
	@sh tests/install-postgres.sh

# make sure there is a PgBouncer to test with; installs it with the system's package manager
pgbouncer:
	@sh tests/install-pgbouncer.sh

# make sure there is what tries the HTTP API out; installs it below the build directory
schemathesis:
	@sh tests/install-python.sh schemathesis

# make sure there are Shopify's own kit for apps and samples of its webhooks
shopify:
	@sh tests/install-python.sh shopify
	@sh tests/install-shopify.sh

# make sure there are Patroni, etcd and HAProxy; installs them with the system's package manager
patroni:
	@sh tests/install-ha.sh
