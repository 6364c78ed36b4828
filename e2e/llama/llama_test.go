// Package llama_test puts a real engine behind the gateway: llama.cpp, from
// the libraries that the npm package node-llama-cpp ships built, with the
// weights of the built-in model as they lie in the repository. `npm ci` here brings it.
package llama_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"

	"lazurite.dev/e2e/live"
	"lazurite.dev/internal/inference/tinywriter"
)

const folder = "../../internal/inference/tinywriter/"

var cloud live.Cloud

func TestMain(m *testing.M) { os.Exit(run(m)) }

func installed() bool {
	_, err := os.Stat("node_modules/@node-llama-cpp/linux-x64")
	return err == nil && live.Has("node")
}

func need(t *testing.T) {
	t.Helper()
	live.Need(t, installed(), "Node.js 20 and the packages in e2e/llama, on Linux on amd64: run `make e2e-deps`")
}

func run(m *testing.M) int {
	if live.Inside() {
		return live.Main(m, &cloud, nil)
	}
	if !installed() {
		return m.Run() // each test says what it needs
	}
	url, stop, err := engine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer stop()
	dir, err := os.MkdirTemp("", "laz-models-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = os.WriteFile(filepath.Join(dir, "laz.yaml"), fmt.Appendf(nil, "models:\n- name: llama\n  backends: [{url: %q, model: tiny}]\n", url), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	options := live.Options{Up: append([]string{"--config", filepath.Join(dir, "laz.yaml")}, live.IssuersOnly.Up...)}
	return live.MainWith(m, &cloud, options, func(c *live.Cloud) error {
		c.Vars["ENGINE"] = url
		return world(c)
	})
}

// engine starts llama.cpp and waits for its address.
func engine() (url string, stop func(), err error) {
	cmd := exec.Command("node", "server.mjs", folder+"tiny-writer.gguf")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, fmt.Errorf("starting llama.cpp: %w", err)
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() } // it has nothing to save
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("llama.cpp did not start: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// world is an account with one deployment of the engine's model.
func world(c *live.Cloud) error {
	name := fmt.Sprintf("llama%08x", rand.Uint32())
	for _, s := range []struct {
		into string
		args []string
	}{
		{"", []string{"group", "create", "--name", "ai", "--location", "eastus"}},
		{"ENDPOINT", []string{"cognitiveservices", "account", "create", "--resource-group", "ai", "--name", name, "--location", "eastus", "--kind", "OpenAI", "--sku", "s0",
			"--custom-domain", name, "--query", "properties.endpoint"}},
		{"KEY", []string{"cognitiveservices", "account", "keys", "list", "--resource-group", "ai", "--name", name, "--query", "key1"}},
		{"", []string{"cognitiveservices", "account", "deployment", "create", "--resource-group", "ai", "--name", name, "--deployment-name", "writer", "--model-name", "llama",
			"--model-version", "1", "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", "1000"}},
	} {
		out, err := c.TSV(s.args...)
		if err != nil {
			return err
		}
		c.Vars[s.into] = out
	}
	return nil
}

func client() openai.Client {
	return openai.NewClient(azure.WithEndpoint(cloud.Vars["ENDPOINT"], "2024-10-21"), azure.WithAPIKey(cloud.Vars["KEY"]))
}

func ask(prompt string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "writer", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}, Temperature: openai.Float(0)}
}

// TestSameText: llama.cpp writes from the file what Go writes from it, through the gateway.
func TestSameText(t *testing.T) {
	need(t)
	if !cloud.Under(t) {
		return
	}
	w, err := tinywriter.Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(folder + "testdata/heldout.json")
	if err != nil {
		t.Fatal(err)
	}
	var products []struct {
		Name string
		Tags []string
	}
	if err := json.Unmarshal(b, &products); err != nil {
		t.Fatal(err)
	}
	api, same := client(), 0
	products = products[:25]
	for _, p := range products {
		want, err := w.Draft(t.Context(), p.Name, p.Tags, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.Chat.Completions.New(t.Context(), ask(strings.Join(append([]string{p.Name}, p.Tags...), " | ")))
		if err != nil {
			t.Fatal(err)
		}
		if got.Choices[0].Message.Content == want.Text && int(got.Usage.CompletionTokens) == want.Tokens && int(got.Usage.PromptTokens) == want.Prompt {
			same++
		} else {
			t.Logf("llama.cpp: %q\nGo: %q", got.Choices[0].Message.Content, want.Text)
		}
	}
	if same < len(products)-2 { // llama.cpp computes with f16: now and then two tokens are too close to tell
		t.Errorf("%d of %d texts are the same", same, len(products))
	}
}

func TestStream(t *testing.T) {
	need(t)
	if !cloud.Under(t) {
		return
	}
	api := client()
	whole, err := api.Chat.Completions.New(t.Context(), ask("Salty Sailor rope | dog | toy"))
	if err != nil {
		t.Fatal(err)
	}
	stream := api.Chat.Completions.NewStreaming(t.Context(), ask("Salty Sailor rope | dog | toy"))
	var text strings.Builder
	chunks := 0
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text.WriteString(c.Delta.Content)
			chunks++
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if text.String() != whole.Choices[0].Message.Content || chunks < 10 {
		t.Errorf("%d chunks: %q, want %q", chunks, text.String(), whole.Choices[0].Message.Content)
	}
}

// TestCancel: a client that leaves stops the engine.
func TestCancel(t *testing.T) {
	need(t)
	if !cloud.Under(t) {
		return
	}
	before := stats(t).Aborted
	ctx, cancel := context.WithCancel(t.Context())
	api := client()
	stream := api.Chat.Completions.NewStreaming(ctx, ask("Salty Sailor rope | dog | toy"), option.WithJSONSet("pause", 200))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	cancel()
	for stream.Next() {
	}
	if err := stream.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	if !live.Until(10*time.Second, func() bool { return stats(t).Aborted > before }) {
		t.Error("the engine went on")
	}
}

type counts struct{ Calls, Aborted, Tokens int }

// stats asks the engine itself, past the gateway and its proxy.
func stats(t *testing.T) (s counts) {
	t.Helper()
	direct := http.Client{Transport: &http.Transport{}}
	res, err := direct.Get(cloud.Vars["ENGINE"] + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
