# What to do with a checkout of wscast; `make help` lists it. Everything that is built or installed goes
# below target/, but for the Debian packages that `make test` installs where it runs as root.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build check test test-rust test-redis test-clients test-browser fuzz autobahn bench clean rust

# Where rustup puts cargo, for shells that have not read its settings.
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Lints link nothing, so they need no libFuzzer, which takes a C++ compiler to build.
unlinked := ./none.a

help: ## List what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-13s %s\n' "$$name" "$$what"; \
	done

run: rust ## Build the server and run it; flags in ARGS, e.g. make run ARGS="--port 8080"
	@cargo build --release --locked
	@exec $(TARGET)/release/wscast $(ARGS)

build: rust ## Build the server: target/release/wscast
	cargo build --release --locked

check: rust ## Check format, lints, documentation and that there is no async runtime
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	CUSTOM_LIBFUZZER_PATH=$(unlinked) cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml \
		--target-dir $(TARGET)/fuzz -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	! cargo tree --locked --all-features -e normal --prefix none \
		| grep -E '^(tokio|async-std|async-executor|smol|mio) '

test: rust ## Run every test; sets up what they need
	@sh tests/setup/test.sh rust redis fuzz python curl node browser

test-rust: rust ## Run the Rust tests
	@sh tests/setup/test.sh rust

test-redis: rust ## Run the tests of nodes that share a Redis, a real one
	@sh tests/setup/test.sh redis

test-clients: rust ## Run clients: the JavaScript one, and the original protocol's in Python, curl and Node
	@sh tests/setup/test.sh python curl node

test-browser: rust ## Run the test page in a headless browser
	@sh tests/setup/test.sh browser

fuzz: rust ## Fuzz all that reads clients' bytes, a minute each (FUZZ_SECONDS); targets in ARGS
	@sh tests/setup/fuzz.sh $(ARGS)

autobahn: rust ## Run the Autobahn suite against the WebSocket implementation (needs Python 2.7)
	@sh tests/setup/autobahn.sh

bench: rust ## Measure fan-out; flags in ARGS
	cargo bench --locked --bench fanout -- $(ARGS)

clean: ## Delete what was built and set up below target/
	rm -rf target

# Says in one line what is missing before cargo says it in many.
rust:
	@$(eval missing := $(shell sh tests/setup/rust.sh))$(if $(missing),$(error $(missing)),:)
