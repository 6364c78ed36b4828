// Lazurite-policy is the last CNI plugin of a pod's chain. It changes nothing:
// it tells lazurite-node, which enforces network policies on this node, the
// address that the pod got, and returns when the pod's rules stand. So no
// container of a pod that a policy selects runs before the policy is enforced.
// Where lazurite-node does not answer, the pod is not started, and its events
// say why.
//
// The protocol with the runtime is CNI's (cni.dev/docs/spec, 0.4.0 to 1.1.0).
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

const (
	defaultSocket = "/run/lazurite/policy.sock"
	limit         = 30 * time.Second // for lazurite-node to start, and to set the rules
)

// config is what the runtime writes to standard input.
type config struct {
	CNIVersion string          `json:"cniVersion"`
	Socket     string          `json:"socket"` // of lazurite-node
	PrevResult json.RawMessage `json:"prevResult"`
}

// request is what lazurite-node takes.
type request struct {
	Command   string `json:"command"`
	Sandbox   string `json:"sandbox"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	Address   string `json:"address,omitempty"`
}

func main() {
	if err := run(os.Getenv, os.Stdin, os.Stdout); err != nil {
		// Section 2 of the specification: an error is JSON on standard output.
		raw, _ := json.Marshal(map[string]any{"cniVersion": "1.0.0", "code": 11, "msg": err.Error()})
		fmt.Println(string(raw))
		os.Exit(1)
	}
}

func run(env func(string) string, in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch command := env("CNI_COMMAND"); command {
	case "ADD":
		q, err := add(env, c.PrevResult)
		if err != nil {
			return err
		}
		if err := ask(ctx, c.Socket, q); err != nil {
			return err
		}
		_, err = out.Write(c.PrevResult)
		return err
	case "DEL":
		q := requestOf(env)
		if q.UID == "" {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		// Where nobody answers there is nothing to forget: lazurite-node asks
		// the API server when it starts.
		_ = ask(ctx, c.Socket, q)
		return nil
	case "CHECK", "GC", "STATUS":
		return nil
	case "VERSION":
		_, err := io.WriteString(out, `{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`)
		return err
	default:
		return fmt.Errorf("unknown command %q", command)
	}
}

// requestOf says which pod the runtime means; CNI_ARGS is of the form
// "K8S_POD_NAME=a;K8S_POD_NAMESPACE=b".
func requestOf(env func(string) string) request {
	q := request{Command: env("CNI_COMMAND"), Sandbox: env("CNI_CONTAINERID")}
	for pair := range strings.SplitSeq(env("CNI_ARGS"), ";") {
		switch name, value, _ := strings.Cut(pair, "="); name {
		case "K8S_POD_NAMESPACE":
			q.Namespace = value
		case "K8S_POD_NAME":
			q.Pod = value
		case "K8S_POD_UID":
			q.UID = value
		}
	}
	return q
}

// add is the request for a pod with the address that the chain gave it.
func add(env func(string) string, previous json.RawMessage) (request, error) {
	q := requestOf(env)
	if q.Namespace == "" || q.Pod == "" || q.UID == "" {
		return q, errors.New("the runtime does not say which pod this is")
	}
	var result struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(previous, &result); err != nil {
		return q, fmt.Errorf("reading what the plugins before made: %w", err)
	}
	for _, ip := range result.IPs {
		if prefix, err := netip.ParsePrefix(ip.Address); err == nil && prefix.Addr().Is4() {
			q.Address = prefix.Addr().String()
			return q, nil
		}
	}
	return q, errors.New("the plugins before gave the pod no IPv4 address")
}

// ask sends the request, and tries again while nobody listens.
func ask(ctx context.Context, socket string, q request) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cmp.Or(socket, defaultSocket))
	}}}
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lazurite-node/attach", bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
		answer, err := client.Do(r)
		if err == nil {
			defer answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<12))
			return fmt.Errorf("network policies: %s", strings.TrimSpace(string(text)))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pod's network policies can't be enforced: lazurite-node on this node does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
