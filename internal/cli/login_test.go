package cli_test

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/cli"
	"lazurite.dev/laztest"
)

// lines gives what is written, line by line.
type lines struct {
	buf bytes.Buffer
	out chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.buf.Write(p)
	for {
		i := bytes.IndexByte(l.buf.Bytes(), '\n')
		if i < 0 {
			return len(p), nil
		}
		l.out <- strings.TrimRight(string(l.buf.Next(i+1)), "\n")
	}
}

// signIn runs az login with options and, beside it, browser, which gets the
// lines that the command printed for a person. It gives status and stdout.
func signIn(t *testing.T, cloud *laztest.Cloud, browser func(printed <-chan string), options ...string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	vars := map[string]string{"AZURE_CONFIG_DIR": dir, "HOME": dir}
	for _, kv := range cloud.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		if k != "AZURE_CONFIG_DIR" {
			vars[k] = v
		}
	}
	var out bytes.Buffer
	errs := &lines{out: make(chan string, 100)}
	done := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		done <- cli.Main(ctx, append([]string{"login"}, options...), cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: errs,
			Getenv: func(k string) string { return vars[k] }, Program: "az"})
	}()
	browser(errs.out)
	status := <-done
	close(errs.out)
	if status != 0 {
		for l := range errs.out {
			t.Log(l)
		}
	}
	return status, out.String()
}

// page is a browser of which only the forms are left.
type page struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	body   string
}

// newPage opens no proxy and trusts no authority of ours, as a person's browser.
func newPage(t *testing.T) *page {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &page{t: t, client: &http.Client{
		Jar: jar, Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *page) open(address string) {
	p.t.Helper()
	res, err := p.client.Get(address)
	p.take(res, err)
}

// take reads an answer; a redirect is followed, also to this machine.
func (p *page) take(res *http.Response, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read to its end
	if err != nil {
		p.t.Fatal(err)
	}
	p.at, p.body = res.Request.URL, string(b)
	if res.StatusCode/100 != 3 {
		return
	}
	next, err := p.at.Parse(res.Header.Get("Location"))
	if err != nil {
		p.t.Fatal(err)
	}
	if next.Hostname() == "localhost" {
		res, err = http.Get(next.String()) // the command's own listener
		p.take(res, err)
		return
	}
	p.open(next.String())
}

// submit sends the page's form with its hidden fields and values.
func (p *page) submit(values map[string]string) {
	p.t.Helper()
	action := regexp.MustCompile(`<form method="post" action="([^"]*)"`).FindStringSubmatch(p.body)
	if action == nil {
		p.t.Fatalf("no form on\n%s", p.body)
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(p.body, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	for k, v := range values {
		form.Set(k, v)
	}
	to, err := p.at.Parse(html.UnescapeString(action[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", to.Scheme+"://"+to.Host)
	p.take(p.client.Do(req))
}

func TestLogin_WithABrowser(t *testing.T) {
	cloud := laztest.New(t)
	status, out := signIn(t, cloud, func(printed <-chan string) {
		for l := range printed {
			if strings.HasPrefix(l, "http://127.0.0.1:") {
				p := newPage(t)
				p.open(l)
				p.submit(map[string]string{"login": cloud.Owner, "passwd": cloud.Password})
				return
			}
		}
	}, "--query", "[0].user.name", "-o", "tsv")
	if status != 0 || out != cloud.Owner+"\n" {
		t.Errorf("got %d, %q", status, out)
	}
}

func TestLogin_RefusedInTheBrowser(t *testing.T) {
	cloud := laztest.New(t)
	status, _ := signIn(t, cloud, func(printed <-chan string) {
		for l := range printed {
			if strings.HasPrefix(l, "http://127.0.0.1:") {
				p := newPage(t)
				p.open(l)
				p.submit(map[string]string{"cancel": "1"})
				return
			}
		}
	})
	if status != 1 {
		t.Errorf("got %d, want 1", status)
	}
}

func TestLogin_WithADeviceCode(t *testing.T) {
	cloud := laztest.New(t)
	code := regexp.MustCompile(`open the page (\S+) and enter the code (\S+)`)
	status, out := signIn(t, cloud, func(printed <-chan string) {
		for l := range printed {
			if m := code.FindStringSubmatch(l); m != nil {
				p := newPage(t)
				p.open(m[1])
				p.submit(map[string]string{"otc": m[2]})
				p.submit(map[string]string{"login": cloud.Owner, "passwd": cloud.Password})
				return
			}
		}
	}, "--use-device-code", "--query", "[0].id", "-o", "tsv")
	if status != 0 || out != cloud.Subscription+"\n" {
		t.Errorf("got %d, %q", status, out)
	}
}

func TestLogin_KeepsNothingOfAWrongPassword(t *testing.T) {
	cloud := laztest.New(t)
	dir := t.TempDir()
	vars := map[string]string{"HTTPS_PROXY": cloud.Proxy, "SSL_CERT_FILE": cloud.CA, "AZURE_CONFIG_DIR": dir, "HOME": dir}
	var errs bytes.Buffer
	status := cli.Main(t.Context(), []string{"login", "-u", cloud.Owner, "-p", "not-the-password"}, cli.Env{Stdin: strings.NewReader(""),
		Stdout: io.Discard, Stderr: &errs, Getenv: func(k string) string { return vars[k] }})
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || status != 1 || len(files) != 0 {
		t.Errorf("got status %d, files %v, %v", status, files, err)
	}
	if strings.Contains(errs.String(), "not-the-password") {
		t.Errorf("the password is shown: %s", errs.String())
	}
}
