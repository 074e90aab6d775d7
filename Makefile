# What people call. Everything below is `cargo` with the right profile; see CONTRIBUTING.md.

CARGO ?= cargo
PREFIX ?= /usr/local
TRIPLE = $(shell rustc --print host-tuple 2>/dev/null || rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT = target/$(TRIPLE)
BINARIES := hull hull-shim hull-oci hull-pause
IMAGES := target/images
TO = $(DESTDIR)$(PREFIX)
BASH_TO = $(TO)/share/bash-completion/completions
ZSH_TO = $(TO)/share/zsh/site-functions
FISH_TO = $(TO)/share/fish/vendor_completions.d

.PHONY: build debug images demo demo-long test test-oci test-callers test-root test-security soak fuzz test-vm test-vm-systemd vm-kernel vm-qemu vm-selinux vm-systemd check bench order install clean setup

# Release binaries, side by side in $(OUT)/release.
build: setup
	$(CARGO) build --release -p hull-shim -p hull
	$(CARGO) build -p hull-pause --profile pause
	install -m 755 $(OUT)/pause/hull-pause $(OUT)/release/hull-pause

# What the tests drive, in $(OUT)/debug.
debug: setup
	$(CARGO) build
	$(CARGO) build -p hull-pause --profile pause
	install -m 755 $(OUT)/pause/hull-pause $(OUT)/debug/hull-pause

# Says what is missing, and installs it where there is apt.
setup:
	@tests/setup

# The test images as OCI archives, from Debian packages.
images: $(IMAGES)/.made
$(IMAGES)/.made: $(wildcard tests/images/* tests/images/*/*)
	$(CARGO) run -q -p hull-tests --bin hull-images -- --out $(IMAGES)
	@touch $@

demo: build images
	@tests/run tests/demo $(OUT)/release $(IMAGES)

demo-long: build images
	@tests/run tests/demo --long $(OUT)/release $(IMAGES)

# Unit tests, then the cases against the real kernel, in namespaces of their own.
test: debug
	@$(MAKE) --no-print-directory images || [ -z "$$HULL_TEST_ROOT" ] \
		|| { echo "make test-root: the images could not be built"; exit 1; }
	tests/run $(CARGO) test --no-fail-fast

# The same, and a case that cannot run here fails.
test-root:
	tests/setup --callers
	tests/setup --criu
	HULL_TEST_ROOT=1 $(MAKE) test

# podman, containerd and docker drive hull-oci; then Debian's runc, as a check on the cases. A caller that is missing is a failure.
test-callers: debug images
	tests/setup --callers
	tests/setup --criu
	HULL_TEST_ROOT=1 tests/run $(CARGO) test -p hull-tests --test callers -- --test-threads 4
	HULL_TEST_ROOT=1 HULL_TEST_RUNTIME=runc tests/run $(CARGO) test -p hull-tests --test callers -- --test-threads 4

# The attacks of the OCI cases alone: on the runtime, with and without its guards.
test-security: debug
	tests/run $(CARGO) test -p hull-tests --test oci security::

# Containers by the thousand: through hull-oci with commands killed at random, and through one shim.
SOAK ?= 2000
soak: debug
	HULL_SOAK=$(SOAK) tests/run $(CARGO) test -p hull-tests --test oci -- --nocapture soak::
	HULL_SOAK=$(SOAK) tests/run $(CARGO) test -p hull-shim --test shim -- a_shim_does_not_grow

# Everything that reads foreign bytes, for HULL_FUZZ_SECONDS (60) per target; TARGETS names some alone.
fuzz:
	nice tests/fuzz/run $(TARGETS)

# The suites in a virtual machine with cgroup v2 alone and every capability; see docs/testing-pods-in-a-vm.md.
test-vm: debug images
	tests/vm/test

# The same in a machine with systemd, with the cases that need it and service/hull.service. Not in CI.
test-vm-systemd: debug images
	tests/vm/test --systemd

# The kernel of that machine, kept outside the repository. Without it the one of Debian's package is used.
vm-kernel:
	tests/vm/kernel

# Stock kernels for an emulated machine, kept there too: VERSIONS="6.12 6.1 5.10".
VERSIONS ?= 6.12
vm-qemu:
	tests/vm/qemu-kernel $(VERSIONS)

# The policy for a machine with SELinux, kept there too.
vm-selinux:
	tests/vm/selinux-policy

# The root with systemd, kept there too.
vm-systemd:
	tests/vm/systemd-root

# What callers of runc see: the same cases against hull-oci and against Debian's runc, as a check on the cases.
test-oci: debug
	tests/setup --oci
	tests/setup --criu
	tests/run $(CARGO) test -p hull-tests --test oci
	HULL_TEST_RUNTIME=runc tests/run $(CARGO) test -p hull-tests --test oci

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --exclude hull-pause --lib --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check licenses bans sources; \
		else echo "check: cargo deny is not installed, skipped (cargo install cargo-deny)"; fi

# Measures beside podman, crun, runc, youki and containerd's shim, all in one run. BENCH="--only verbs" for the OCI
# runtime's verbs alone, --only pods for the rest.
bench: build images
	tests/setup --bench
	$(CARGO) build --release -p hull-tests --bin hull-bench
	# As `make install` puts them: a file that was copied lies in larger pages than one that a linker wrote.
	install -d $(OUT)/bench
	install -m 755 $(addprefix $(OUT)/release/,$(BINARIES)) $(OUT)/bench/
	HULL_HIDE_CGROUP2=1 tests/run $(OUT)/release/hull-bench --binaries $(OUT)/bench --images $(IMAGES) \
		--peers "$$(tests/bench/peers)" $(BENCH)
	TMPDIR=/run tests/run $(CARGO) test --release -q -p hull-shim --test shim -- --cost

# Records which functions each program runs, in shim/hull-oci.ld, shim/hull-shim.ld and runtime/hull.ld: what is run lies together in the next build.
ORDER = target/order
order: build images
	install -d $(ORDER)/bin
	for each in hull-shim/hull-oci hull-shim/hull-shim hull/hull; do \
		$(CARGO) rustc --release -p $${each%/*} --bin $${each#*/} -- -C link-arg=-Wl,-Map=$$PWD/$(ORDER)/$${each#*/}.map \
			|| exit 1; done
	install -m 755 $(addprefix $(OUT)/release/,$(BINARIES)) $(ORDER)/bin/
	$(CARGO) build -p hull-tests --bin hull-order
	tests/run $(OUT)/debug/hull-order $(ORDER)/bin/hull-oci,$(ORDER)/hull-oci.map,shim/hull-oci.ld \
		$(ORDER)/bin/hull-shim,$(ORDER)/hull-shim.map,shim/hull-shim.ld,children $(ORDER)/bin/hull,$(ORDER)/hull.map,runtime/hull.ld \
		-- tests/order/commands $(ORDER)/bin $(IMAGES)

# Binaries, manual pages and completions. DESTDIR is for packagers.
install: build
	install -d $(TO)/bin $(TO)/lib/systemd/system $(TO)/share/man/man1 $(BASH_TO) $(ZSH_TO) $(FISH_TO)
	for each in $(BINARIES); do install -m 755 $(OUT)/release/$$each $(TO)/bin/ || exit 1; done
	sed 's|/usr/local|$(PREFIX)|' service/hull.service >$(TO)/lib/systemd/system/hull.service
	$(OUT)/release/hull man $(TO)/share/man/man1
	$(OUT)/release/hull completion bash >$(BASH_TO)/hull
	$(OUT)/release/hull completion zsh >$(ZSH_TO)/_hull
	$(OUT)/release/hull completion fish >$(FISH_TO)/hull.fish

clean:
	$(CARGO) clean
