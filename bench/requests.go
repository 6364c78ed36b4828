package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/server"
)

// world is what the requests are about.
type world struct {
	tenant, subscription, client, vault, issuer string
}

func (w world) tokenURL() string {
	return "https://login.microsoftonline.com/" + w.tenant + "/oauth2/v2.0/token"
}

// form asks for a token of the vault's with an assertion.
func (w world) form(assertion string) *strings.Reader {
	return strings.NewReader(url.Values{
		"client_id": {w.client}, "grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion},
	}.Encode())
}

// build makes document 003's world and gives the identity its role.
func (c *cloud) build(ctx context.Context) (w world, err error) {
	var principal, vaultID, owner string
	var lines = []struct {
		into *string
		args []string
	}{
		{&w.subscription, []string{"account", "show", "--query", "id"}},
		{&w.tenant, []string{"account", "show", "--query", "tenantId"}},
		{&owner, []string{"account", "show", "--query", "user.name"}},
		{nil, []string{"group", "create", "-n", "bench", "-l", "eastus"}},
		{&w.issuer, []string{"aks", "create", "-g", "bench", "-n", "c", "--enable-oidc-issuer", "--enable-workload-identity", "--generate-ssh-keys", "--query", "oidcIssuerProfile.issuerUrl"}},
		{&w.client, []string{"identity", "create", "-g", "bench", "-n", "bench-id", "--query", "clientId"}},
		{&principal, []string{"identity", "show", "-g", "bench", "-n", "bench-id", "--query", "principalId"}},
		{nil, []string{"identity", "federated-credential", "create", "-g", "bench", "--identity-name", "bench-id", "-n", "fed", "--issuer", "$issuer",
			"--subject", "system:serviceaccount:default:bench", "--audiences", "api://AzureADTokenExchange"}},
		{&vaultID, []string{"keyvault", "create", "-g", "bench", "-n", "bench-vault", "-l", "eastus", "--enable-rbac-authorization", "--query", "id"}},
		{&w.vault, []string{"keyvault", "show", "-n", "bench-vault", "--query", "properties.vaultUri"}},
		{nil, []string{"role", "assignment", "create", "--assignee", "$owner", "--role", "Key Vault Secrets Officer", "--scope", "$vault"}},
		{nil, []string{"keyvault", "secret", "set", "--vault-name", "bench-vault", "-n", "s", "--value", strings.Repeat("x", 64)}},
		{nil, []string{"role", "assignment", "create", "--assignee-object-id", "$principal", "--assignee-principal-type", "ServicePrincipal",
			"--role", "Key Vault Secrets User", "--scope", "$vault"}},
	}
	for _, l := range lines {
		args := append([]string(nil), l.args...)
		for i, a := range args {
			args[i] = map[string]string{"$issuer": w.issuer, "$owner": owner, "$vault": vaultID, "$principal": principal}[a]
			if args[i] == "" {
				args[i] = a
			}
		}
		out, err := c.exec(ctx, append(args, "--output", "tsv")...)
		if err != nil {
			return w, err
		}
		if l.into != nil {
			*l.into = out
		}
	}
	return w, nil
}

// requests measures what the server spends on a token and on a secret.
func (s *suite) requests(ctx context.Context) (err error) {
	c := s.cloud("requests")
	p, err := c.up(ctx)
	if err != nil {
		return err
	}
	stop := sync.OnceValue(p.stop)
	defer func() { err = errors.Join(err, stop()) }()
	w, err := c.build(ctx)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	bare, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	token, err := s.exchanges(ctx, c, p, bare, w, client)
	if err != nil {
		return err
	}
	if err := s.secrets(ctx, p, bare, w, client, token); err != nil {
		return err
	}
	if err := s.groupShow(ctx, c); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	return s.withoutHTTPS(ctx, c, w)
}

// client reaches the cloud as programs under laz run do: through its proxy, with its roots.
func (c *cloud) client() (*http.Client, error) {
	e, err := c.home.ReadEndpoint()
	if err != nil {
		return nil, err
	}
	proxy, err := url.Parse(e.Proxy)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	raw, err := os.ReadFile(e.OwnCA)
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(raw)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
	}}, nil
}

// admin asks the admin socket for a service account's token.
func (c *cloud) assertion(ctx context.Context, seconds int) (string, error) {
	path, done, err := c.home.SocketPath()
	if err != nil {
		return "", err
	}
	defer done()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer t.CloseIdleConnections()
	ask, err := json.Marshal(server.TokenRequest{Namespace: "default", Name: "bench", Cluster: "c", ExpirationSeconds: seconds})
	if err != nil {
		return "", err
	}
	var a server.TokenAnswer
	err = send(ctx, &http.Client{Transport: t}, "http://laz/v1/serviceaccount-token", "", bytes.NewReader(ask), &a)
	return a.Token, err
}

// assertions are n that nobody has presented: each has a lifetime of its own,
// the shortest of that many seconds.
func (c *cloud) assertions(ctx context.Context, n, shortest int) ([]string, error) {
	list := make([]string, n)
	for i := range list {
		var err error
		if list[i], err = c.assertion(ctx, shortest+i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// send does a request and decodes its answer; a body makes it a POST.
func send(ctx context.Context, client *http.Client, to, bearer string, body io.Reader, into any) error {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	if _, form := body.(*strings.Reader); form {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.300s", method, r.URL.Host+r.URL.Path, resp.Status, raw)
	}
	return json.Unmarshal(raw, into)
}

// target is a request to a process whose CPU is counted. Each client has a
// connection of its own and asks again when it has its answer.
type target struct {
	pid     int
	clients []*http.Client
	request func(client *http.Client, i int) error
}

// crowd is how many clients ask at once where the load is not one's.
const crowd = 8

// clients are n like one, each with connections of its own, that speak HTTP/2
// or HTTP/1.1 alone.
func clients(one *http.Client, two bool, n int) []*http.Client {
	out := make([]*http.Client, n)
	for i := range out {
		out[i] = &http.Client{Timeout: time.Minute, Transport: spoken(one.Transport.(*http.Transport), two)}
	}
	return out
}

// do makes the requests [first, first+n), shared among the clients.
func (t target) do(first, n int) error {
	var g errgroup.Group
	for k, client := range t.clients {
		g.Go(func() error {
			for i := first + k; i < first+n; i += len(t.clients) {
				if err := t.request(client, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// rounds is in how many turns costs measures its targets.
const rounds = 10

// costs is what the targets' processes spend on each of n requests, after some
// that aren't counted. The targets take turns, so that all of them see the same
// machine, whatever else it does. Their connections are closed at the end.
func costs(n int, targets ...target) ([]time.Duration, error) {
	n = max(n/rounds, 1)
	sums := make([]time.Duration, len(targets))
	for round := range rounds + 1 { // the first is for warmth
		for k, t := range targets {
			before, err := cpu(t.pid)
			if err != nil {
				return nil, err
			}
			if err := t.do(round*n, n); err != nil {
				return nil, err
			}
			after, err := cpu(t.pid)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				sums[k] += after - before
			}
		}
	}
	for k, t := range targets {
		sums[k] /= time.Duration(n * rounds)
		for _, c := range t.clients {
			c.CloseIdleConnections()
		}
	}
	return sums, nil
}

// asked is how many requests costs makes of n.
func asked(n int) int { return max(n/rounds, 1) * (rounds + 1) }

// exchanges measures the federated exchange: assertions never seen before, and one again and again.
func (s *suite) exchanges(ctx context.Context, c *cloud, p *process, bare *bareProcess, w world, client *http.Client) (token string, err error) {
	exchange := func(client *http.Client, assertion string) (string, error) {
		var a struct {
			AccessToken string `json:"access_token"`
		}
		err := send(ctx, client, w.tokenURL(), "", w.form(assertion), &a)
		return a.AccessToken, err
	}
	// measure gives Go's server's figure and ours.
	measure := func(n, crowd int, path string, assertion func(i int) string) ([]time.Duration, error) {
		return costs(n, target{bare.pid, clients(bare.client(true), true, crowd), func(client *http.Client, i int) error {
			var v struct{ Value string }
			return send(ctx, client, "https://"+bare.addr+path, "", w.form(assertion(i)), &v)
		}}, target{p.pid, clients(client, true, crowd), func(client *http.Client, i int) error {
			_, err := exchange(client, assertion(i))
			return err
		}})
	}
	n := s.n(1000)
	alone, err := signing(n / 2)
	if err != nil {
		return "", err
	}
	for _, k := range []int{1, crowd} {
		assertions, err := c.assertions(ctx, asked(n), 3600+k*asked(n))
		if err != nil {
			return "", err
		}
		fresh, err := measure(n, k, "/sign", func(i int) string { return assertions[i] })
		if err != nil {
			return "", err
		}
		again, err := measure(2*n, k, "/", func(int) string { return assertions[0] })
		if err != nil {
			return "", err
		}
		if token, err = exchange(client, assertions[0]); err != nil {
			return "", err
		}
		s.add(figure{"federated exchange, CPU, new assertions" + atOnce(k), us(fresh[1]), "one RSA-2048 verify + sign " + us(alone), float64(fresh[1]) / float64(alone),
			"within 10 % of the limit", fresh[1] <= alone*11/10})
		s.add(figure{"", "", "the same behind Go's HTTPS server " + us(fresh[0]), float64(fresh[1]) / float64(fresh[0]), "", true})
		s.add(figure{"federated exchange, CPU, the same again" + atOnce(k), us(again[1]), "Go's server, a fixed answer " + us(again[0]), float64(again[1]) / float64(again[0]),
			"< 200 µs", again[1] < 200*time.Microsecond})
	}
	return token, nil
}

// withoutHTTPS measures the exchange in this process, behind TLS and HTTP:
// front door, token service, log. The limit takes turns with it.
func (s *suite) withoutHTTPS(ctx context.Context, c *cloud, w world) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	srv, err := server.New(ctx, server.Config{
		Home: string(c.home), Listen: "127.0.0.1:0", Local: "127.0.0.1:0", Names: server.NamesAzure, Offline: true,
		Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		cancel()
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-ran) }()
	<-srv.Ready()
	n := s.n(1000)
	list, err := c.assertions(ctx, asked(n), 40000)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	door := srv.Handler()
	exchange := func(assertion string) error {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, w.tokenURL(), w.form(assertion))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		door.ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			return fmt.Errorf("the exchange in process: %d: %.300s", answer.Code, answer.Body)
		}
		return nil
	}
	self := func(request func(i int) error) target {
		return target{os.Getpid(), []*http.Client{http.DefaultClient}, func(_ *http.Client, i int) error { return request(i) }}
	}
	got, err := costs(n, self(func(int) error { return verifyAndSign(key) }), self(func(i int) error { return exchange(list[i]) }),
		self(func(int) error { return exchange(list[0]) }))
	if err != nil {
		return err
	}
	s.add(figure{"federated exchange without HTTPS, CPU, new assertions", us(got[1]), "one RSA-2048 verify + sign " + us(got[0]), float64(got[1]) / float64(got[0]),
		"within 10 % of the limit", got[1] <= got[0]*11/10})
	s.add(figure{"federated exchange without HTTPS, CPU, the same again", us(got[2]), "", 0, "< 200 µs", got[2] < 200*time.Microsecond})
	return nil
}

// atOnce names the number of clients where it is more than one.
func atOnce(clients int) string {
	if clients == 1 {
		return ""
	}
	return fmt.Sprintf(", %d clients at once", clients)
}

// verifyAndSign is one RSA-2048 signature of crypto/rsa and one verification.
func verifyAndSign(key *rsa.PrivateKey) error {
	digest := sha256.Sum256([]byte("bench"))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return err
	}
	return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], sig)
}

// signing is the CPU of verifyAndSign, done n times without a pause.
func signing(n int) (time.Duration, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, err
	}
	before := ownCPU()
	for range n {
		if err := verifyAndSign(key); err != nil {
			return 0, err
		}
	}
	return (ownCPU() - before) / time.Duration(n), nil
}

// secrets measures reading a secret: token, policy, decryption, log.
func (s *suite) secrets(ctx context.Context, p *process, bare *bareProcess, w world, client *http.Client, token string) error {
	n := s.n(6000)
	read := func(url string) func(*http.Client, int) error {
		return func(client *http.Client, _ int) error {
			var v struct{ Value string }
			return send(ctx, client, url, token, nil, &v)
		}
	}
	for _, two := range []bool{true, false} {
		version := map[bool]string{true: "HTTP/2", false: "HTTP/1.1"}[two]
		for _, k := range []int{1, crowd} {
			got, err := costs(n, target{bare.pid, clients(bare.client(two), two, k), read("https://" + bare.addr + "/")},
				target{p.pid, clients(client, two, k), read(w.vault + "secrets/s?api-version=7.4")})
			if err != nil {
				return err
			}
			s.add(figure{"secret read, CPU, " + version + atOnce(k), us(got[1]), "Go's server, a fixed answer " + us(got[0]), float64(got[1]) / float64(got[0]), "< 150 µs", got[1] < 150*time.Microsecond})
		}
	}
	return nil
}

// groupShow measures `az group show` as a whole process, beside one that only prints.
func (s *suite) groupShow(ctx context.Context, c *cloud) error {
	times := func(args ...string) (wall, used time.Duration, err error) {
		var walls, useds []time.Duration
		for range s.n(60) {
			cmd := exec.CommandContext(ctx, c.laz, args...)
			cmd.Env = c.env
			began := time.Now()
			if err := cmd.Run(); err != nil {
				return 0, 0, fmt.Errorf("laz %s: %w", strings.Join(args, " "), err)
			}
			walls = append(walls, time.Since(began))
			useds = append(useds, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		return median(walls), median(useds), nil
	}
	limit, limitCPU, err := times("version")
	if err != nil {
		return err
	}
	wall, used, err := times("group", "show", "-n", "bench")
	if err != nil {
		return err
	}
	s.add(figure{"az group show, whole process", ms(wall), "the process alone (laz version) " + ms(limit), float64(wall) / float64(limit), "< 20 ms", wall < 20*time.Millisecond})
	s.add(figure{"az group show, CPU", ms(used), "the process alone " + ms(limitCPU), float64(used) / float64(limitCPU), "", true})
	return nil
}
