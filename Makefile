# Tasks for a checkout of wscast; `make help` lists them. All output goes below target/. As root on Debian, tasks
# also install the Debian packages that they need.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build check test test-rust test-redis test-small test-clients test-browser test-docs test-deploy fuzz autobahn bench \
	screenshots \
	bench-peers release clean rust

# The folder where rustup puts cargo, for shells that were opened before rustup ran.
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Clippy does not link, so this file need not exist. Naming it skips the build of libFuzzer, which needs a C++
# compiler.
NO_LIBFUZZER := ./none.a

help: ## List the tasks
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r task text; do \
		printf '  make %-13s %s\n' "$$task" "$$text"; \
	done

run: rust ## Build and run the server; pass flags in ARGS, e.g. make run ARGS="--port 8080"
	@cargo build --release --locked
	@exec $(TARGET)/release/wscast $(ARGS)

build: rust ## Build the server: target/release/wscast
	cargo build --release --locked

check: rust ## Check format, lints, documentation and that no async runtime is used
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	CUSTOM_LIBFUZZER_PATH=$(NO_LIBFUZZER) cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml \
		--target-dir $(TARGET)/fuzz -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	! cargo tree --locked --all-features -e normal --prefix none \
		| grep -E '^(tokio|async-std|async-executor|smol|mio) '

test: rust ## Run all tests, after setting up the tools that they need
	@sh tests/setup/test.sh rust redis small fuzz bench python curl proxies node browser docs deploy

test-rust: rust ## Run the Rust tests
	@sh tests/setup/test.sh rust

test-redis: rust ## Run the tests of several nodes on a real Redis
	@sh tests/setup/test.sh redis

test-small: rust ## Test the program without SQLite, Redis and TLS
	@sh tests/setup/test.sh small

test-clients: rust ## Test clients in JavaScript, Python and curl, also through proxies
	@sh tests/setup/test.sh python curl proxies node

test-browser: rust ## Test the page in a headless browser
	@sh tests/setup/test.sh browser

test-docs: rust ## Execute the documentation: every console block, client sample and link
	@sh tests/setup/test.sh docs

test-deploy: rust ## Check the systemd units and the Debian package
	@sh tests/setup/test.sh deploy

fuzz: rust ## Fuzz the parsers, each for FUZZ_SECONDS (60); name targets in ARGS
	@sh tests/setup/fuzz.sh $(ARGS)

autobahn: rust ## Run the Autobahn WebSocket test suite (needs Python 2.7)
	@sh tests/setup/autobahn.sh $(ARGS)

bench: rust ## Measure CPU, memory and latency; pass flags in ARGS, e.g. ARGS="--help"
	cargo bench --locked --bench fanout -- $(ARGS)

bench-peers: rust ## Measure other servers beside wscast; pass flags in ARGS, e.g. ARGS="--list"
	@sh tests/setup/peers.sh $(ARGS)

screenshots: rust ## Take screenshots of the page: target/screenshots; a part of their names in ARGS
	@sh tests/setup/screenshots.sh $(ARGS)

release: rust ## Build static programs and Debian packages: target/dist; name targets in ARGS
	@sh assets/deploy/release.sh $(ARGS)

clean: ## Delete everything below target/
	rm -rf target

# Fails with one line of explanation, where cargo would print many.
rust:
	@sh tests/setup/rust.sh
