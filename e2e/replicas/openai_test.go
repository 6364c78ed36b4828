package replicas_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// answered is what a deployment said.
type answered struct {
	status int
	code   string // of the error
	header http.Header
}

// complete asks a deployment in a chat, with a header that says who asks.
func complete(ctx context.Context, c *http.Client, endpoint, deployment, name, value string) (answered, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"openai/deployments/"+deployment+"/chat/completions?api-version=2024-10-21",
		strings.NewReader(`{"max_tokens":16,"messages":[{"role":"user","content":"Product name: rope\nTags: dog"}]}`))
	if err != nil {
		return answered{}, err
	}
	req.Header.Set(name, value)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answered{}, err
	}
	var a struct {
		Error struct{ Code string }
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return answered{}, err
	}
	return answered{resp.StatusCode, a.Error.Code, resp.Header}, nil
}

// asker asks the account's deployments through one replica.
type asker struct {
	t        *testing.T
	client   *http.Client
	endpoint string
}

func (a asker) ask(deployment, name, value string) answered {
	a.t.Helper()
	got, err := complete(a.t.Context(), a.client, a.endpoint, deployment, name, value)
	if err != nil {
		a.t.Fatal(err)
	}
	return got
}

// within waits a second at most until the deployment answers with a status, and
// with a code if it is an error.
func (a asker) within(what string, status int, code, deployment, name, value string) {
	a.t.Helper()
	var got answered
	if !live.Until(time.Second, func() bool { got = a.ask(deployment, name, value); return got.status == status && got.code == code }) {
		a.t.Errorf("%s: not within a second: want %d %q, got %d %q", what, status, code, got.status, got.code)
	}
}

// warm waits until the deployment answers: the built-in model is read at first.
func (a asker) warm(deployment, key string) {
	a.t.Helper()
	var got answered
	if !live.Until(20*time.Second, func() bool { got = a.ask(deployment, "api-key", key); return got.status == http.StatusOK }) {
		a.t.Fatalf("%s does not answer: %d %q", deployment, got.status, got.code)
	}
}

// aiWorld makes an account with two deployments through r.
func (r *replica) aiWorld(name string) (id, endpoint string) {
	r.t.Helper()
	r.laz("group", "create", "--name", "ai", "--location", "eastus")
	id = r.laz("cognitiveservices", "account", "create", "--name", name, "--resource-group", "ai", "--location", "eastus", "--kind", "OpenAI", "--sku", "S0",
		"--custom-domain", name, "--yes", "--query", "id")
	endpoint = r.laz("cognitiveservices", "account", "show", "--name", name, "--resource-group", "ai", "--query", "properties.endpoint")
	r.deploy(name, "wide", 1000)
	r.deploy(name, "tight", 1)
	return id, endpoint
}

func (r *replica) deploy(account, name string, capacity int) {
	r.t.Helper()
	r.laz("cognitiveservices", "account", "deployment", "create", "--name", account, "--resource-group", "ai", "--deployment-name", name,
		"--model-name", "gpt-4o-mini", "--model-version", "2024-07-18", "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", strconv.Itoa(capacity))
}

func (r *replica) key(account, which string) string {
	r.t.Helper()
	return r.laz("cognitiveservices", "account", "keys", "list", "--name", account, "--resource-group", "ai", "--query", which)
}

// What is made, changed or taken away through one replica counts at the other
// within a second: deployments, keys, local authentication, roles.
func TestModels_WhatOneIsToldCountsAtTheOther(t *testing.T) {
	a, b := pair(t, `ollama: "off"`, "replicas: 2")
	const name = "two-replicas-ai"
	id, endpoint := a.aiWorld(name)
	atA, atB := asker{t, a.client(), endpoint}, asker{t, b.client(), endpoint}
	old := a.key(name, "key1")
	if got := b.key(name, "key1"); got != old {
		t.Error("the two show different keys")
	}
	atA.warm("wide", old)
	atB.warm("wide", old)

	b.deploy(name, "late", 1000)
	atA.within("a deployment made through b", 200, "", "late", "api-key", old)
	a.laz("cognitiveservices", "account", "deployment", "delete", "--name", name, "--resource-group", "ai", "--deployment-name", "late")
	atB.within("a deployment deleted through a", 404, "DeploymentNotFound", "late", "api-key", old)

	b.laz("cognitiveservices", "account", "keys", "regenerate", "--name", name, "--resource-group", "ai", "--key-name", "key1")
	atA.within("a key replaced through b", 401, "401", "wide", "api-key", old)
	atA.within("the new one", 200, "", "wide", "api-key", a.key(name, "key1"))

	owner := a.laz("account", "show", "--query", "user.name")
	token := "Bearer " + b.laz("account", "get-access-token", "--resource", "https://cognitiveservices.azure.com", "--query", "accessToken")
	atB.within("without a role", 401, "PermissionDenied", "wide", "Authorization", token)
	a.laz("role", "assignment", "create", "--assignee", owner, "--role", "Cognitive Services OpenAI User", "--scope", id)
	atB.within("a role given through a", 200, "", "wide", "Authorization", token)
	a.laz("role", "assignment", "delete", "--assignee", owner, "--role", "Cognitive Services OpenAI User", "--scope", id)
	atB.within("a role taken away through a", 401, "PermissionDenied", "wide", "Authorization", token)

	key := a.key(name, "key2")
	a.laz("resource", "update", "--ids", id, "--set", "properties.disableLocalAuth=true")
	atB.within("keys switched off through a", 403, "AuthenticationTypeDisabled", "wide", "api-key", key)
}

// Two servers that know that they are two give a deployment its capacity
// together: each its half, and none more.
func TestModels_TwoShareADeploymentsCapacity(t *testing.T) {
	a, b := pair(t, `ollama: "off"`, "replicas: 2")
	const name = "two-limits-ai"
	_, endpoint := a.aiWorld(name)
	key := a.key(name, "key1")
	atA, atB := asker{t, a.client(), endpoint}, asker{t, b.client(), endpoint}
	atA.warm("wide", key) // its capacity is its own
	atB.warm("wide", key)
	began := time.Now()
	served := map[string]int{}
	for _, at := range []struct {
		name string
		asker
	}{{"a", atA}, {"b", atB}} {
		for range 20 {
			got := at.ask("tight", "api-key", key)
			if got.status == http.StatusOK {
				served[at.name]++
				continue
			}
			wait, err := strconv.Atoi(got.header.Get("Retry-After"))
			if got.status != http.StatusTooManyRequests || got.code != "429" || err != nil || wait < 1 || wait > 60 || got.header.Get("retry-after-ms") == "" {
				t.Fatalf("%s: %d %q, Retry-After %q", at.name, got.status, got.code, got.header.Get("Retry-After"))
			}
			break
		}
	}
	// Capacity 1 is six requests a minute, of which each has three; one more each
	// twenty seconds.
	more := int(time.Since(began) / (20 * time.Second))
	for at, n := range served {
		if n < 3 || n > 3+more+1 {
			t.Errorf("%s served %d of its three (%s)", at, n, time.Since(began))
		}
	}
	if len(served) != 2 {
		t.Errorf("served: %v", served)
	}
	if got := atB.ask("wide", "api-key", key); got.status != http.StatusOK {
		t.Errorf("another deployment of the same account: %d %q", got.status, got.code)
	}
}
