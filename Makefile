# Crier. Needs Go, make and git; what else a target needs it installs, by name.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Packages without goroutines of their own, the simulator, whose seeds share nothing, and
# the command line, whose tests start processes: the race detector has nothing to find
# there. To internal/badinput, which asks a whole server 30,000 things, it would say nothing
# that it does not say to the tests of the server's parts; internal/app/soakreal has its
# server in a process. In LevelDB it finds that a waiter who gives up closes the channel of
# its answer; the library provides for that.
PLAIN := ./cmd/... ./job ./filters ./audience/source ./internal/app/soakreal ./internal/archtest ./internal/badinput ./internal/bin ./internal/config ./internal/idset ./internal/sim/... \
	./scheduler/apta ./scheduler/apta/aptatest ./scheduler/apta/hint ./scheduler/apta/lease ./scheduler/apta/link ./scheduler/apta/timing ./scheduler/apta/wire ./state/parked/level
JS    := presence/client/js

SEEDS   ?= 2000

# Packages wait, for servers, clocks and disks, in half of their time: one more than there
# are processors runs at once, and of those tests that may run beside each other, four.
# What check has vetted is not vetted again.
GOTEST := go test -vet=off -p $$(( $$(nproc) + 1 )) -parallel 4

# SQLite is C that was translated into Go. The race detector slows it down several times, and
# watching it says nothing: what it does to its own memory. Its driver is watched, as all of
# our own.
C_CODE := modernc.org/sqlite/lib modernc.org/libc/...

.PHONY: build profile build-sim sim test check unit js demo cluster cluster-down chaos soak soak-real mutants fmt clean compiler curl node strace bin/nats-server mariadb zookeeper redis

# The compiler inlines by a profile: a tenth more logins a second. Tests do without, for it
# compiles every package once more.
PROFILE := cmd/crier/server.pgo
build:
	CGO_ENABLED=0 go build -trimpath -pgo=$(PROFILE) -ldflags '$(LDFLAGS)' -o bin/crier ./cmd/crier

# Makes the profile again, of what the server does in the benchmarks; two minutes. That of older
# code serves, too: it is made again when what is hot was rewritten. A copy runs, for the profile
# has the path of what ran in it. A benchmark whose figure is missed (8) counts as well.
profile: build
	@dir=$$(mktemp -d "$${TMPDIR:-/tmp}/crier-profile-XXXXXX") || exit 1; trap 'rm -r "$$dir"' EXIT; \
	cp bin/crier "$$dir" && \
	for bench in 'login --recipients 200000' 'last-mile --under-way 20' small-jobs pipeline; do \
		CRIER_CPU_PROFILE="$$dir/$${bench%% *}.pprof" "$$dir/crier" bench $$bench || [ $$? = 8 ] || exit 1; \
	done; \
	go tool pprof -proto -output=$(PROFILE) "$$dir"/*.pprof

# The NATS server of the version that is embedded, to run clusters elsewhere. Tests build
# one for themselves.
bin/nats-server:
	CGO_ENABLED=0 go build -trimpath -o bin/nats-server github.com/nats-io/nats-server/v2

build-sim:
	CGO_ENABLED=0 go build -trimpath -o bin/crier-sim ./cmd/crier-sim

# Everything that decides whether a change is good.
test: check unit js demo sim

check:
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

unit: compiler curl node strace mariadb zookeeper redis
	$(GOTEST) -timeout 10m $(PLAIN)
	CGO_ENABLED=1 $(GOTEST) -race $(C_CODE:%=-gcflags=%=-race=false) -timeout 15m $$(go list ./... | grep -vxF "$$(go list $(PLAIN))")

js: node
	cd $(JS) && node --test

# The main job on the embedded default; exits 0 only if nothing is lost or doubled.
demo: build
	bin/crier demo

# A whole cluster on this machine, each process by itself; what was started before stays.
# DIR is where: make cluster DIR=/tmp/c.
DIR ?= .cluster
cluster: zookeeper mariadb build
	bin/crier cluster up --dir $(DIR)

# Ends it and removes it, if there is one.
cluster-down:
	@test -e $(DIR)/cluster.json || { echo "make: there is no cluster in $(DIR)"; exit 0; }; \
	bin/crier cluster down --dir $(DIR) --remove

# Every drill on a cluster of its own, which is ended in every case: about two hours. Or
# some: make chaos DRILLS='kill-worker pause-worker --rounds 5'. The table is printed, and
# all that was measured is in chaos.json.
DRILLS ?= all
chaos: zookeeper mariadb build
	@dir=$$(mktemp -d "$${TMPDIR:-/tmp}/crier-chaos-XXXXXX") || exit 1; \
	trap 'bin/crier cluster down --dir "$$dir" --remove' EXIT; trap 'exit 130' INT TERM; \
	bin/crier cluster up --dir "$$dir" || exit 1; \
	bin/crier drill run $(DRILLS) --dir "$$dir" --online 400 --report chaos.json & pid=$$!; \
	trap 'kill $$pid' INT TERM; wait $$pid; status=$$?; \
	while kill -0 $$pid 2>/dev/null; do wait $$pid; status=$$?; done; exit $$status

# The whole cluster in simulation, SEEDS times, and each planted bug at its seed.
sim: build-sim
	GOGC=400 bin/crier-sim --seeds $(SEEDS) --planted -o json

# Kills the server 30 times in the middle of a job, and sends through 300 storms with one
# worker and 300 with a fleet; make test does it 3 times, and through 4 of each.
soak:
	CRIER_STORMS=300 go test -count=1 -timeout 30m -run Storm ./worker
	CRIER_KILLS=30 go test -count=1 -timeout 90m -run Kill ./internal/app/...

# Sends all 550 packages of the real data as 550 jobs, from real accounts, with caps on, while
# recipients come and go as 33 real logs say: some minutes. make test does it with 20 of them.
soak-real:
	CRIER_PACKAGES=550 go test -count=1 -v -timeout 60m -run Replay ./internal/app/soakreal

# Gives every decoder MUTANTS mutants of each good sample, the real bitmaps among them: five
# minutes at most. make test has fewer of those over 1.6 KiB.
MUTANTS ?= 10000
mutants:
	CRIER_MUTANTS=$(MUTANTS) $(GOTEST) -count=1 -v -timeout 120m -run Muta \
		$$(grep -rlE --include='*_test.go' 'badinput\.(Feed|Number)\(' . | xargs -n1 dirname | sort -u)

fmt:
	go fmt ./...

clean:
	rm -rf bin

# $(call need,CHECK,WHY,PACKAGES): installs Debian packages unless CHECK says that they are
# there. Tests start servers of their own; those of the packages are kept from starting by
# a policy, which is taken away again.
POLICY := /usr/sbin/policy-rc.d
define need
	@{ $(1); } >/dev/null 2>&1 || { \
		echo "make: $(2); installing the packages $(3)"; \
		command -v apt-get >/dev/null || { echo "make: there is no apt-get; install $(3) by hand" >&2; exit 1; }; \
		test -e $(POLICY) || { made=yes; printf '#!/bin/sh\nexit 101\n' | $(SUDO) tee $(POLICY) >/dev/null; $(SUDO) chmod 755 $(POLICY); }; \
		$(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(3); \
		status=$$?; test -z "$$made" || $(SUDO) rm $(POLICY); exit $$status; }
endef

compiler:
	$(call need,command -v "$$(go env CC)",the race detector needs a C compiler,gcc libc6-dev)

# The JavaScript client is tested with Node, and a client of others' is from npm.
node:
	$(call need,command -v node && command -v npm,the tests with JavaScript clients need Node and npm,nodejs npm)

strace:
	$(call need,command -v strace,the test that counts what is synced needs it,strace)

curl:
	$(call need,command -v curl,the tests with clients of others need it,curl)

mariadb:
	$(call need,command -v mariadbd || test -x /usr/sbin/mariadbd,the tests of the SQL store need MariaDB,mariadb-server)

zookeeper:
	$(call need,command -v java && test -e /usr/share/java/zookeeper.jar,the tests with ZooKeeper need it and Java,zookeeper default-jre-headless)

redis:
	$(call need,command -v redis-server,the tests of packages from Redis need it,redis-server)
