# The targets that people use; "make help" prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE ?= shadowtap:$(VERSION)
FUZZTIME ?= 30s
CHECKS ?= 5000
BENCH ?= .
PKG ?= ./...
SECONDS ?= 3
ROUNDS ?= 3
NICE ?= 0
# Tools of the project itself. The go command leaves folders named testdata
# out of "./...", so they are named.
OWN := ./testdata/gotest ./testdata/lint ./testdata/bench
# Looked at by lint too; its tests have a target of their own.
FLEET := ./testdata/fleet
GOTEST = go run ./testdata/gotest $(if $(TOTALS),-totals $(TOTALS))
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help generate build test test-unit test-root test-fleet test-live test-verdict test-long fuzz bench bench-go bench-peers lint image

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

generate: ## compile the eBPF program again (clang 14), and what else is generated
	@testdata/deps.sh generate
	@go generate ./...

build: ## build the program: ./shadowtap, static
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o shadowtap ./cmd/shadowtap

test: test-unit test-root ## all tests; installs what is missing when it runs as root

test-unit: ## every package with the race detector
	@testdata/deps.sh race
	@$(GOTEST) -race -timeout 15m $(PKG) $(if $(filter ./...,$(PKG)),$(OWN))

test-root: ## end to end: real kernel, nginx, Apache Kafka (needs root)
	@testdata/deps.sh root
	@$(GOTEST) -tags e2e -count=1 -timeout 15m ./agent/e2e/... ./testdata/bench

test-fleet: ## the SQL of deploy/ in ClickHouse and Flink, with the windows of 220 agents
	@testdata/deps.sh fleet
	@$(GOTEST) -count=1 -timeout 15m $(FLEET)

test-live: ## the long proofs on a real kernel: 10^6 exchanges, losses, attacks (needs root)
	@SHADOWTAP_LONG=1 $(GOTEST) -tags e2e -count=1 -timeout 30m -run '^Test(Live|Loss|Attack)' ./agent/e2e

test-verdict: ## the simulations of noise, bounds and latency, 1,000 runs each, about 10 minutes
	@SHADOWTAP_LONG=1 $(GOTEST) -count=1 -timeout 60m ./diff/verdict

test-long: test-live test-verdict ## property tests with CHECKS=5000 cases each, and these two
	@testdata/deps.sh race
	@testdata/long.sh $(CHECKS)

fuzz: ## every fuzz target for FUZZTIME=30s
	@testdata/fuzz.sh $(FUZZTIME) $(PKG)

bench: bench-go bench-peers ## both of these, about 14 minutes

bench-go: ## Go benchmarks with allocations: BENCH=regexp, PKG=./folder
	@go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

bench-peers: ## beside tcpdump, GoReplay, nginx: SECONDS=3, ROUNDS=3, NICE=0, CELLS, TOOLS, MIFFY=1 (needs root)
	@testdata/deps.sh bench $(if $(MIFFY),miffy)
	@go run ./testdata/bench -seconds $(SECONDS) -rounds $(ROUNDS) -nice $(NICE) \
	  $(if $(CELLS),-cells '$(CELLS)') $(if $(TOOLS),-tools '$(TOOLS)') $(if $(MIFFY),-miffy)

lint: ## gofmt, go vet, staticcheck and the house rules
	@files=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  [ -z "$$files" ] || { echo "not in gofmt's form:"; echo "$$files"; exit 1; }
	@go vet ./... $(OWN) $(FLEET)
	@go vet -tags e2e ./agent/e2e/... ./testdata/bench
	@go run $(STATICCHECK) -tags e2e ./... $(OWN) $(FLEET)
	@go run ./testdata/lint

image: build ## an image file, shadowtap.tar, for "docker load" or "ctr images import"
	@testdata/image.sh $(IMAGE) shadowtap shadowtap.tar
