# Every target is what CI runs; the scripts they need are in .ci.
.DEFAULT_GOAL := help
.PHONY: help demo run build deps test race lint fuzz bench golden torture

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: ## audit, move and roll back real queues on an embedded Redis
	@go run ./cmd/redisopt demo

run: ## run redisopt from source: make run ARGS='audit connections'
	@go run ./cmd/redisopt $(ARGS)

build: ## build the static binary bin/redisopt
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/redisopt ./cmd/redisopt

deps: ## install what tests can use: redis-server, Node peers (SKIP_DEPS=1 leaves the machine alone)
	@.ci/deps

test: deps ## run all tests; lists what was skipped and why
	@CGO_ENABLED=0 go run ./.ci/gotest ./... ./.ci/gotest

race: deps ## run all tests under the race detector (needs a C compiler)
	@CGO_ENABLED=1 go run ./.ci/gotest -race ./... ./.ci/gotest

lint: ## run the linters, and build for every platform
	@CGO_ENABLED=0 go tool -modfile=.ci/tools/go.mod golangci-lint run --allow-parallel-runners ./... ./.ci/gotest/...
	@.ci/cross

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@.ci/fuzz

bench: ## run the benchmarks: make bench BENCH=Mover PKG=./internal/migrate/mover
	@go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -timeout 60m $(or $(PKG),./...)

golden: ## write the golden files anew; look at the diff
	go test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' cmd internal | xargs -n1 dirname | sort -u | sed 's,^,./,') -update

torture: ## run the crash tests at every point instead of a sample (TORTURE=1)
	@TORTURE=$(or $(TORTURE),1) go run ./.ci/gotest -count=1 -timeout 120m ./cmd/redisopt ./internal/migrate/... ./internal/runtime/queue/governor
