# Crier. Needs Go, make and git; what else a target needs it installs, by name.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Packages without goroutines of their own, and the command line, whose tests start
# processes: the race detector has nothing to find there. In LevelDB it finds that a
# waiter who gives up closes the channel of its answer; the library provides for that.
PLAIN := ./cmd/... ./job ./filters ./audience/source ./internal/archtest ./internal/bin ./internal/config ./internal/idset \
	./scheduler/apta ./scheduler/apta/aptatest ./scheduler/apta/hint ./scheduler/apta/lease ./scheduler/apta/link ./scheduler/apta/timing ./scheduler/apta/wire ./state/parked/level
JS    := presence/client/js

.PHONY: build test check unit js demo soak fmt clean compiler node

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/crier ./cmd/crier

# Everything that decides whether a change is good.
test: check unit js demo

check:
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

unit: compiler node
	go test -timeout 6m $(PLAIN)
	CGO_ENABLED=1 go test -race -timeout 6m $$(go list ./... | grep -vxF "$$(go list $(PLAIN))")

js: node
	cd $(JS) && node --test

# The main job on the embedded default; exits 0 only if nothing is lost or doubled.
demo: build
	bin/crier demo

# Kills the server 30 times in the middle of a job, and sends through 300 storms; make
# test does it 3 times, and through 4.
soak:
	CRIER_STORMS=300 go test -count=1 -timeout 30m -run Storm ./worker
	CRIER_KILLS=30 go test -count=1 -timeout 90m -run Kill ./internal/app/...

fmt:
	go fmt ./...

clean:
	rm -rf bin

# The race detector is linked by a C compiler.
compiler:
	@command -v "$$(go env CC)" >/dev/null || { \
		echo "make: the race detector needs a C compiler; installing the packages gcc and libc6-dev"; \
		command -v apt-get >/dev/null || { echo "make: there is no apt-get; install gcc by hand" >&2; exit 1; }; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq gcc libc6-dev; }

# The JavaScript client is tested with Node, and a client of others' is from npm.
node:
	@{ command -v node && command -v npm; } >/dev/null || { \
		echo "make: the tests with JavaScript clients need Node and npm; installing the packages nodejs and npm"; \
		command -v apt-get >/dev/null || { echo "make: there is no apt-get; install nodejs and npm by hand" >&2; exit 1; }; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq nodejs npm; }
