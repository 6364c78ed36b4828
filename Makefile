# Everything that is done here. `make` says what there is.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
MODULES = . examples/keyvault-reader examples/msal-go examples/store e2e
# Modules of the distribution. What is ours in them is vetted and tested with the flags that they are built
# with: another flag is another build of Kubernetes. staticcheck reads what a package imports, so it leaves out the one that imports all of that.
KUBE_MODULES = $(patsubst %/go.mod,%,$(wildcard kube/*/go.mod))
KUBE_GO = CGO_ENABLED=0 GOFLAGS=-trimpath $(GO)
FUZZTIME ?= 1m
# Races are looked for in all that is Go's. Two things of others' are left out, on which most of the time would go: what passwords
# are hashed with, a pure function that is slow on purpose, and SQLite, whose memory is its own and none that the detector sees.
RACE = -race $(foreach p,golang.org/x/crypto/blowfish modernc.org/sqlite/lib modernc.org/libc,-gcflags=$(p)=-race=false)

.PHONY: help build kube images demo demo-openai test unit e2e e2e-deps walk-keyvault walk-openai walk-endpoints cgroup2 check bench fuzz clean
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

build: ## bin/laz, one static file
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/laz ./cmd/laz
	@ln -sfn "$${XDG_CACHE_HOME:-$$HOME/.cache}/lazurite/kube/current" bin/kube

kube: ## the Kubernetes that clusters run; the first time about ten minutes, kept over `make clean`
	@kube/deps.sh && $(GO) run ./kube/build

images: build ## container images, in bin/images: scikit-learn for endpoints (of Debian packages), the examples; pip
	@LAZ=bin/laz images/azureml-sklearn/build.sh
	@images/pip/build.sh
	@LAZ=bin/laz GO="$(GO)" examples/images.sh

demo: build kube images ## the first path, end to end, in a cloud of its own
	@cd examples/keyvault-reader && $(GO) build -trimpath -o ../../bin/keyvault-reader .
	@examples/demo/demo.sh

demo-openai: build kube images ## a store whose model writes, called with no key; the role taken away, and explained
	@$(GO) build -C examples/store -trimpath -o ../../bin/ ./ai-service ./product-service ./store-admin
	@examples/demo/openai.sh

test: kube e2e-deps unit e2e ## everything that must pass

unit:
	$(GO) vet ./...
	$(GO) test $(RACE) -p 4 ./...
	@set -e; for m in $(KUBE_MODULES); do (cd $$m && $(KUBE_GO) test ./...); done

e2e: build kube images e2e-deps ## strangers' clients against the built laz
	cd e2e && $(GO) vet ./... && LAZ_BINARY=$(CURDIR)/bin/laz $(GO) test -count=1 -parallel 4 -timeout 40m ./kube
	cd e2e && LAZ_BINARY=$(CURDIR)/bin/laz $(GO) test -count=1 -p 2 -parallel 4 -timeout 40m $$($(GO) list ./... | grep -vx lazurite.dev/e2e/kube)
	cd e2e/webhook-original && $(GO) vet ./... && $(GO) test ./...
	cd examples/keyvault-reader && $(GO) vet ./...
	cd examples/store && $(GO) vet ./... && $(GO) test -race ./...
	@for f in bin/artifacts/*; do [ ! -f "$$f" ] || echo "kept for people: $$f"; done

e2e-deps: ## what the tests need: PostgreSQL, Debian's az and Python SDKs, npm packages
	@e2e/deps.sh

walk-keyvault: build kube images ## the walkthrough with real pods (root); WALKTHROUGHS=DIR takes it from there
	@e2e/walkthroughs/walk.sh keyvault

walk-openai: build kube images ## the same for the store and its model
	@e2e/walkthroughs/walk.sh openai

walk-endpoints: build kube images ## the same for a model behind a managed online endpoint in an isolated network; SAMPLE=DIR takes the sample from there
	@SAMPLE="$(SAMPLE)" GO="$(GO)" e2e/walkthroughs/walk.sh endpoints

cgroup2: build kube ## nodes on cgroup v2, in an emulated machine: needs qemu-system-x86, busybox-static, cpio; no root
	@e2e/cgroup2/vm.sh $(STEPS)

check: ## formatting, vet, staticcheck, build of every module
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not formatted (gofmt -w):'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@set -e; for m in $(MODULES); do echo "check $$m"; (cd $$m && $(GO) build -o /dev/null ./... && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...); done
	@set -e; for m in $(KUBE_MODULES); do echo "check $$m"; (cd $$m && $(KUBE_GO) vet ./... && \
	  ours=$$($(KUBE_GO) list ./... | grep -vxE 'lazurite.dev/kube/(kubernetes|coredns)' || true) && \
	  { [ -z "$$ours" ] || $(KUBE_GO) run $(STATICCHECK) $$ours; }); done

bench: build kube images ## figures beside their limits, measured in the same run
	@$(GO) run ./bench -laz bin/laz

fuzz: ## every fuzz target for a minute (FUZZTIME)
	@set -e; for f in $$(grep -rl --include='*_test.go' '^func Fuzz' internal kube); do \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$f); do echo "fuzz $$(dirname $$f) $$t"; \
	    (cd $$(dirname $$f) && $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) .); done; done

clean: ## remove what was built
	rm -rf bin .cache e2e/js/node_modules
