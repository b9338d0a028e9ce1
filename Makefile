# Set-up, the main job and the tests. Everything fetched or built lands in .deps/ and target/.
MODEL := .deps/models/smollm2-135m-instruct/config.json
GGUF := .deps/gguf/smollm2-135m-instruct.Q4_1.gguf
NVRTC := .deps/nvrtc/libnvrtc.so.13

.PHONY: demo test setup setup-cuda lint fuzz bench-reference performance press-costs

demo: setup
	cargo run --bin pressroom -- run experiments/configs/quickstart.toml

test: setup $(NVRTC)
	cargo test --workspace

setup: $(MODEL)

$(MODEL): scripts/setup.py
	python3 scripts/setup.py
	cargo run --bin pressroom -- model import $(GGUF) --name smollm2-135m-instruct
	@touch $(MODEL)

# Only tests take it: CUDA kernels are compiled where there is no GPU.
$(NVRTC):
	python3 scripts/setup.py nvrtc

setup-cuda: setup
	python3 scripts/setup.py cuda

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings

# Beside the reference, which is installed from PyPI into .deps/peers/ (5 GB).
bench-reference: setup
	cargo build --release --bin pressroom
	python3 scripts/bench_reference.py target/release/pressroom

# The page of speed, printed anew.
performance: setup
	cargo build --release --bin pressroom
	target/release/pressroom bench --markdown --threads 2 --layout dense,half,ragged,int8,int4 > target/performance.md
	python3 scripts/bench_reference.py target/release/pressroom >> target/performance.md
	mv target/performance.md docs/performance.md

# What presses take, into docs/presses.md.
COSTS := experiments/src/commands/press/costs.md
press-costs: setup
	cargo build --release --bin pressroom
	python3 scripts/peers/setup.py kvpress
	.deps/peers/kvpress/bin/python scripts/press_costs.py target/release/pressroom > target/costs.md
	mv target/costs.md $(COSTS)
	cargo run --bin pressroom -- press docs > target/presses.md
	mv target/presses.md docs/presses.md
