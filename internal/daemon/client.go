package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"lazurite.dev/internal/server"
)

// maxAnswer is what is read of one answer, in bytes.
const maxAnswer = 64 << 20

// ask calls the admin socket: GET without a question, POST with one. The
// server's errors are passed on in its words.
func ask(ctx context.Context, h server.Home, path string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if question != nil {
		raw, err := json.Marshal(question)
		if err != nil {
			return err
		}
		method, body = http.MethodPost, bytes.NewReader(raw)
	}
	return send(ctx, h, method, path, body, answer)
}

// send is ask for long requests: body, nil for none, is sent as it is, and
// nothing limits the time but ctx.
func send(ctx context.Context, h server.Home, method, path string, body io.Reader, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://laz"+path, body)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer(h)}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.Status, raw)
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

func dialer(h server.Home) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := h.SocketPath()
		if err != nil {
			return nil, err
		}
		defer done()
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
}

func refusal(status string, raw []byte) error {
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(raw, &e); err != nil || e.Error.Message == "" {
		return fmt.Errorf("the server answered %s", status)
	}
	return fmt.Errorf("(%s) %s", e.Error.Code, e.Error.Message)
}
