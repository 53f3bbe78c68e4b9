# Lists the recipes.
default:
    @just --list

# What CI runs.
check:
    bash .ci/run

# The tests.
test *ARGS:
    cargo test --locked {{ARGS}}

# Accepts the whole-command snapshots as they are now; read the diff before you commit it.
accept:
    INSTA_UPDATE=always cargo test --locked --test commands --test bad_input

# The main job on bundled rows and the simulated provider.
demo:
    cargo run --release --locked -- demo

# The simulated provider as a server.
simulate *ARGS:
    cargo run --release --locked -- simulate {{ARGS}}

# Every line of docs/benchmarks.md against its reference, and the page itself; `--only LINE,…`, `--quick` and more: `just bench --help`.
bench *ARGS:
    benches/bench.py {{ARGS}}

# A big table through batches against a provider on which much goes wrong: time, memory, and whether the promises hold.
bench-batches ROWS="100000":
    benches/batches.sh {{ROWS}}

# A table of a million rows, counted by a sample and whole: time, memory, and what the tokenizer alone takes.
bench-counting ROWS="1000000":
    benches/counting.sh {{ROWS}}

# Feeds hostile input to one target of fuzz/, or to all in turn, for so many seconds each; installs cargo-fuzz.
fuzz TARGET="all" SECONDS="60":
    fuzz/run {{TARGET}} {{SECONDS}}

# Random kills under random faults, so many rounds; a seed that failed is tried again with OVERNIGHT_TORTURE_SEED=….
torture ROUNDS="2000":
    OVERNIGHT_TORTURE_ROUNDS={{ROUNDS}} cargo test --locked --test torture -- --nocapture

# Formats everything.
fmt:
    cargo fmt --all
