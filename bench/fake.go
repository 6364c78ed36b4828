package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fakeEvents is how many events the fake model's streams have, besides [DONE].
const fakeEvents = 50

// serveFake is a model's server that thinks for no time: OpenAI's API with a
// fixed answer, whole or as a stream. A stream whose user is "hold" has one
// event, and waits for its client to leave. It prints its address.
func serveFake(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	const head = `{"id":"chatcmpl-bench","object":"chat.completion`
	whole := []byte(head + `","created":1741569952,"model":"fake","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("word ", fakeEvents) +
		`"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":50,"total_tokens":80}}`)
	chunk := func(rest string) []byte {
		return []byte("data: " + head + `.chunk","created":1741569952,"model":"fake","system_fingerprint":"fp_fake","choices":[` + rest + "}\n\n")
	}
	word := chunk(`{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}]`)
	last := chunk(`{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]`)
	used := chunk(`],"usage":{"prompt_tokens":30,"completion_tokens":50,"total_tokens":80}`)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			_, _ = io.WriteString(w, `{"object":"list","data":[]}`)
			return
		}
		var q struct {
			Stream bool
			User   string
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !q.Stream {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(whole) // the client counts
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for i := range fakeEvents {
			_, _ = w.Write(word)
			_ = rc.Flush()
			if q.User == "hold" && i == 0 {
				<-r.Context().Done()
				return
			}
		}
		_, _ = w.Write(last)
		_, _ = w.Write(used)
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})}
	fmt.Println(ln.Addr())
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startFake is serveFake in a process of its own.
func startFake(ctx context.Context) (addr string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-fake")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line := bufio.NewScanner(out)
	if !line.Scan() {
		return "", nil, errors.Join(errors.New("the fake model ended"), cmd.Wait())
	}
	return line.Text(), func() error {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			return err
		}
		return cmd.Wait()
	}, nil
}

// chatRequest is a body for the fake model.
func chatRequest(stream bool, user string) string {
	return `{"model":"any","messages":[{"role":"system","content":"You write descriptions of products."},{"role":"user","content":"Describe a rope with tags: strong, blue."}],"temperature":0.7,"max_tokens":100,"stream":` +
		strconv.FormatBool(stream) + `,"user":"` + user + `"}`
}

// complete does a chat and checks that all of it came.
func complete(ctx context.Context, client *http.Client, url, bearer string, stream bool) error {
	resp, err := post(ctx, client, url, bearer, chatRequest(stream, "bench"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: after %d bytes: %w", url, len(raw), err)
	}
	if resp.StatusCode != http.StatusOK || strings.Count(string(raw), "word ") != fakeEvents || stream && !strings.HasSuffix(string(raw), "data: [DONE]\n\n") {
		return fmt.Errorf("%s: %s: %.300s", url, resp.Status, raw)
	}
	return nil
}

func post(ctx context.Context, client *http.Client, url, bearer, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return client.Do(r)
}
