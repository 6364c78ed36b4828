package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Text reads what is at path as text: a container's log. Of more than most
// bytes the end is given.
func (k *KubeAPI) Text(ctx context.Context, path string, most int) (string, error) {
	req, err := k.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return "", err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the API server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKubeAnswer))
	if err != nil {
		return "", fmt.Errorf("read the API server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", kubeError(resp.StatusCode, b)
	}
	return string(b[max(len(b)-most, 0):]), nil
}

// Lines calls fn with each line of the text at path as it comes, without its
// end, until the server ends it, which is no error, or ctx ends. Of a line that
// is longer, most bytes are given.
func (k *KubeAPI) Lines(ctx context.Context, path string, most int, fn func(line string)) error {
	req, err := k.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	resp, err := k.stream.Do(req)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what is unread is not wanted
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return errors.Join(kubeError(resp.StatusCode, b), err)
	}
	in, line := bufio.NewReaderSize(resp.Body, 16<<10), []byte(nil)
	for {
		piece, more, err := in.ReadLine()
		line = append(line, piece[:min(len(piece), most-len(line))]...)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read lines of the API server: %w", err)
		case !more:
			fn(string(line))
			line = line[:0]
		}
	}
}

// Watch calls fn with each event ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")
// of the watch at path, which has its query, until the server ends it, which is
// no error, ctx ends, or fn fails. A *KubeError with Code 410 says that the
// resource version is too old: list again.
// Source: Kubernetes API concepts, "Efficient detection of changes".
func (k *KubeAPI) Watch(ctx context.Context, path string, fn func(event string, object json.RawMessage) error) error {
	req, err := k.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.stream.Do(req)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what is unread is not wanted
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return errors.Join(kubeError(resp.StatusCode, b), err)
	}
	lines := json.NewDecoder(resp.Body)
	for {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		err := lines.Decode(&e)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a watch of the API server: %w", err)
		case e.Type == "ERROR":
			var status struct{ Code int }
			_ = json.Unmarshal(e.Object, &status) // without a code it is an error all the same
			return kubeError(status.Code, e.Object)
		}
		if err := fn(e.Type, e.Object); err != nil {
			return err
		}
	}
}
