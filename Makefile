# agentry: `make` lists the targets. Every stage prints how many seconds it took.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export CGO_ENABLED := 0

BINARIES := controlplane agentd agentctl
LINT := .tmp/golangci-lint-v2.12.2
# golangci-lint caches by content, with the paths of the checkout that it first saw it in: two checkouts must not share a cache.
export GOLANGCI_LINT_CACHE := $(CURDIR)/.tmp/golangci-lint-cache
# Packages that link etcd's server: too slow to build with the race detector, so they are tested without it.
ETCD := ./controlplane/app ./controlplane/store/etcdstore
# The OpenID provider of the whole-process suites, and what npm writes last when it is installed.
OIDC := test/oidc/node_modules/.package-lock.json
# The clients that are put to an agent's doors.
DOORS := test/doors/node_modules/.package-lock.json
# Whole-process suites.
SUITES := ./test/...

# stage NAME, COMMANDS: run and tell the seconds.
define stage
	@start=$$(date +%s); echo "== $(1)"; ( $(2) ) || { code=$$?; echo "== $(1): FAILED after $$(( $$(date +%s) - start )) s"; exit $$code; }; echo "== $(1): $$(( $$(date +%s) - start )) s"
endef

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## build the three binaries and the examples' MCP servers into bin/
	$(call stage,build,mkdir -p bin && for b in $(BINARIES); do go build -o bin/$$b ./$$b; done && for b in nacos-mcp desk-mcp; do go build -o bin/$$b ./examples/$$b || exit 1; done)

.PHONY: demo
demo: build ## the main job end to end, with everything embedded; ends by itself
	@go run ./test/demo --bin bin

.PHONY: up
up: build ## leave the example running to play with (Ctrl-C stops it)
	@bin/agentctl up examples/nacos-helper

.PHONY: test
test: lint build generate-digest unit etcd-tests e2e deploy-check chaos-smoke ## everything CI runs

.PHONY: lint
lint: $(LINT) ## golangci-lint with the floors, and the import rules that it can't see
	$(call stage,lint,$(LINT) run --allow-parallel-runners ./...)
	$(call stage,imports,go test ./test/deps)

$(LINT):
	$(call stage,build golangci-lint,mkdir -p .tmp && go build -modfile=lint.tool.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

.PHONY: test-tools
test-tools: ## redis-server and curl, which tests start and run for themselves (root and apt: installed)
	@scripts/test-tools.sh

.PHONY: unit
unit: test-tools ## unit tests, transcripts and testscripts under the race detector
	$(call stage,unit -race,CGO_ENABLED=1 go test -race -timeout 10m $$(go list ./... | grep -vE '/test(/|$$)|/gen/|^github.com/agentry/agentry/($(subst $() ,|,$(patsubst ./%,%,$(ETCD))))$$'))

.PHONY: etcd-tests
etcd-tests: ## the packages that link etcd's server, without the race detector
	$(call stage,etcd packages,go test -timeout 10m $(ETCD))

.PHONY: oidc-provider
oidc-provider: $(OIDC) ## the real OpenID provider that the whole-process tests log in at (npm ci; nothing where that is done)

$(OIDC): test/oidc/package-lock.json
	$(call stage,npm ci,command -v npm >/dev/null || { echo "npm is needed for test/oidc: install Node.js"; exit 1; }; cd test/oidc && npm ci --ignore-scripts && touch node_modules/.package-lock.json)

.PHONY: doors-clients
doors-clients: $(DOORS) ## the npm clients that the whole-process tests put to an agent's doors (npm ci; nothing where that is done)

$(DOORS): test/doors/package-lock.json
	$(call stage,npm ci,command -v npm >/dev/null || { echo "npm is needed for test/doors: install Node.js"; exit 1; }; cd test/doors && npm ci --ignore-scripts && touch node_modules/.package-lock.json)

.PHONY: e2e
e2e: build test-tools $(OIDC) $(DOORS) ## whole-process tests: real binaries, real etcd, real kills
	$(call stage,end to end,go test -count=1 -parallel 4 -timeout 15m $(SUITES))

.PHONY: deploy-check
deploy-check: ## Dockerfile, Compose file and units: parsed strictly, built by their own lines, and started as plain processes
	$(call stage,systemd,command -v systemd-analyze >/dev/null || { [ "$$(id -u)" = 0 ] || { echo "systemd-analyze is needed to check the units: apt-get install systemd"; exit 1; }; apt-get update -q && apt-get install -y -q --no-install-recommends systemd; })
	$(call stage,deploy,cd deploy/check && go vet ./... && go test -count=1 -timeout 10m ./...)

.PHONY: chaos-tools
chaos-tools:
	@scripts/chaos-tools.sh

.PHONY: chaos-smoke
chaos-smoke: chaos-tools ## the fault suite, something of every sort from a fixed seed (root: the network too), and two mutations
	$(call stage,chaos smoke,go run ./test/chaos --scenario smoke --seed 5 --dir .tmp --report .tmp/chaos-smoke)
	$(call stage,two mutations,go run ./test/chaos --scenario mutations --draw 2 --seed 5)

.PHONY: chaos
chaos: chaos-tools ## the fault suite for DURATION (10m) from SEED (the time); prints where it keeps logs, histories and the report
	$(call stage,chaos,go run ./test/chaos --seed $(or $(SEED),$(shell date +%s)) --duration $(or $(DURATION),10m) $(ARGS))

.PHONY: chaos-mutations
chaos-mutations: chaos-tools ## every mutation must turn the fault suite red
	$(call stage,chaos mutations,go run ./test/chaos --scenario mutations)

.PHONY: soak
soak: build ## the long runs: 1,000 hot updates, a backup that is brought back ten minutes later
	$(call stage,soak,AGENTRY_SOAK=1 go test -count=1 -timeout 60m -run 'Hot|UnderThreeReplicas' ./test/e2e -v)

.PHONY: bench
bench: build ## agentd's cold start, turns beside a standard-library floor and memory; a change pushed to 1,000 instances, beside a yardstick and go-control-plane
	$(call stage,bench,go run ./test/bench/start --bin bin)
	$(call stage,bench-runtime,go run ./test/bench/runtime --bin bin)
	$(call stage,bench-push,cd test/bench/push && go run . -n 1000 -bin ../../../bin)

.PHONY: fuzz
fuzz: ## each fuzz target for 30 s
	$(call stage,fuzz,scripts/fuzz.sh 30s)

.PHONY: generate
generate: ## regenerate gen/ and the generated documents (compiles buf the first time: minutes)
	$(call stage,generate,go tool -modfile=go.tool.mod buf lint && go tool -modfile=go.tool.mod buf generate && scripts/gen-digest.sh > gen/DIGEST && go test ./internal/spec -run TestEffectsPage -update)

.PHONY: generate-digest
generate-digest: ## gen/ belongs to the protos as they are
	$(call stage,generate digest,[ "$$(scripts/gen-digest.sh)" = "$$(cat gen/DIGEST)" ] || { echo "gen/ is not what the protos make: run make generate"; exit 1; })

.PHONY: generate-check
generate-check: generate ## regenerate and fail if a byte changed; then the wire must not break
	@git diff --exit-code -- gen docs
	@go tool -modfile=go.tool.mod buf breaking --against '.git#ref=HEAD'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .tmp
