# The tools' versions are pinned here and nowhere else; .ci/run reads them by running
# these targets. golangci-lint carries staticcheck in the version of its own go.mod.
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0

BIN := $(CURDIR)/bin

# Every module of this repository: the one for users, and those they must never see.
ALL_MODULES := $(patsubst %/,%,$(dir $(shell git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod')))

.PHONY: all
all: test lint ## Test and lint: what to run before a commit

.PHONY: help
help: ## Print this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

.PHONY: test
test: ## Run the tests of every module, with the race detector, in random order
	@for m in $(ALL_MODULES); do echo "go test: $$m" && (cd $$m && go test -race -shuffle=on ./...) || exit 1; done

.PHONY: lint
lint: bin/golangci-lint ## Vet and lint every module
	@for m in $(ALL_MODULES); do echo "lint: $$m" && (cd $$m && go vet ./... && $(BIN)/golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...) || exit 1; done

.PHONY: tidy
tidy: ## Tidy every module
	@for m in $(ALL_MODULES); do (cd $$m && go mod tidy) || exit 1; done

.PHONY: api
api: ## Write the exported API and what it costs to import into api/
	@mkdir -p api
	@go run ./internal/tools/api api
	@internal/tools/consumer-modules > api/consumer-modules.list

.PHONY: size
size: ## Print the size of a program that only enqueues
	@internal/tools/producer-size

.PHONY: count
count: ## Print lines by area, exported names and nolint directives
	@internal/tools/count

.PHONY: docs
docs: ## Run the commands that the pages show, and check all else they say
	@HANDOFF_RUN_DOCS=1 go test -short -count=1 ./internal/docs

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (5s)
	@internal/tools/fuzz $(or $(FUZZTIME),5s)

.PHONY: soak
soak: ## Send the emulator random requests for SOAK (10m), with the race detector
	@go test ./emulator -race -count=1 -v -run TestSoak -timeout 0 -soak $(or $(SOAK),10m)

.PHONY: chaos
chaos: ## Run 100,000 tasks while workers and Redis are killed, 50,000 with PostgreSQL (twenty minutes)
	@go run -C internal/integration/chaos . -tasks 100000
	@go run -C internal/integration/chaos . -sql -tasks 50000

.PHONY: simulate
simulate: ## Simulate WORLDS (2000) new worlds, in which all goes wrong
	@go test -count=1 -timeout 0 -v -run TestWorlds ./internal/simulate -worlds $(or $(WORLDS),2000) -first $(or $(FIRST),$(shell date +%s))

.PHONY: mutants
mutants: ## Break the library on purpose, one mutant at a time, and see the tests notice
	@go run ./internal/mutants

.PHONY: bench
bench: ## Measure the library beside what it replaces and write docs/performance.md (twenty minutes)
	@go run -C internal/bench . -all -docs ../../docs

.PHONY: browser
browser: ## Try the dashboard in Chromium (Debian's package of that name)
	@HANDOFF_REQUIRE_BROWSER=1 go test -C internal/integration -shuffle=on ./browser/...

.PHONY: screenshots
screenshots: ## Take pictures of the dashboard into bin/screenshots, and those of the docs
	@go run -C internal/integration/browser ./screenshots -keep ../../../docs/screenshots

.PHONY: vuln
vuln: bin/govulncheck ## Look for known vulnerabilities (asks vuln.go.dev)
	@for m in $(ALL_MODULES); do (cd $$m && $(BIN)/govulncheck ./...) || exit 1; done

.PHONY: ci
ci: ## Run what CI runs
	@.ci/run

.PHONY: modules
modules: # the list for .ci/run
	@echo $(ALL_MODULES)

# Rebuilt when this file changes, since it holds the versions.
bin/golangci-lint: Makefile
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@touch $@

bin/govulncheck: Makefile
	GOBIN=$(BIN) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	@touch $@
