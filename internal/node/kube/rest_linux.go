package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"lazurite.dev/internal/node"
)

// maxAnswer bounds what is read of an answer of the API server, in bytes.
const maxAnswer = 64 << 20

// client speaks to a cluster's API server as its administrator.
type client struct {
	server string
	http   *http.Client
}

// newClient makes one; admin gives the credentials as they are now.
func newClient(admin func() (node.Credentials, error)) (*client, error) {
	now, err := admin()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(now.CA) {
		return nil, errors.New("the cluster's authority is no certificate")
	}
	return &client{server: now.Server, http: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			TLSClientConfig: &tls.Config{
				RootCAs: pool, MinVersion: tls.VersionTLS12,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					c, err := admin()
					if err != nil {
						return nil, err
					}
					pair, err := tls.X509KeyPair(c.Cert, c.Key)
					return &pair, err
				},
			},
		},
	}}, nil
}

// statusError is a refusal of the API server.
type statusError struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the API server answers %d %s: %s", e.Code, e.Reason, e.Message)
}

// is reports whether err is an answer with that HTTP status.
func is(err error, code int) bool {
	var s *statusError
	return errors.As(err, &s) && s.Code == code
}

// do sends a request; in and out may be nil. kind is the body's media type.
func (c *client) do(ctx context.Context, method, path, kind string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", kind)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode >= 300 {
		refused := &statusError{}
		if json.Unmarshal(raw, refused) != nil || refused.Code == 0 {
			refused = &statusError{Code: res.StatusCode, Message: string(raw[:min(len(raw), 300)])}
		}
		return fmt.Errorf("%s %s: %w", method, path, refused)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// apply makes the object so, whether it is there or not, and owns the fields
// that it names: those that it named before and not now are taken away.
func (c *client) apply(ctx context.Context, path string, object obj) error {
	q := url.Values{"fieldManager": {"lazurite-node-agent"}, "force": {"true"}}
	return c.do(ctx, http.MethodPatch, path+"?"+q.Encode(), "application/apply-patch+yaml", object, nil)
}

// rules makes our roles, where they are not as they should be.
func (c *client) rules(ctx context.Context) error {
	for path, object := range roles() {
		if err := c.apply(ctx, "/apis/rbac.authorization.k8s.io/v1/"+path, object); err != nil {
			return err
		}
	}
	return nil
}

// merge changes the fields of the object that patch names.
func (c *client) merge(ctx context.Context, path string, patch obj) error {
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", patch, nil)
}

func (c *client) remove(ctx context.Context, path string) error {
	err := c.do(ctx, http.MethodDelete, path, "", nil, nil)
	if is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// ready is nil when the API server says that it is.
func (c *client) ready(ctx context.Context) error { return c.healthy(ctx, "/readyz") }

// alive is nil when the API server does its part, whatever etcd does.
func (c *client) alive(ctx context.Context) error { return c.healthy(ctx, "/livez?exclude=etcd") }

func (c *client) healthy(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16)) // only to say what is missing
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server is not well: %s", bytes.TrimSpace(raw))
	}
	return nil
}

func (c *client) close() { c.http.CloseIdleConnections() }
