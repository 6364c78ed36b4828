// Package fetch is the storage initializer of a deployment's pods: it downloads
// folders of blobs and single blobs, over the blob API and with a token of the
// pod's identity, before the server starts. What it says is the
// storage-initializer log.
package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Download is what is fetched: a folder of blobs becomes the folder Path, one
// blob the file Path.
type Download struct{ URL, Path string }

// Config says what is fetched and how.
type Config struct {
	Downloads []Download
	// Endpoint and Secret are the identity endpoint's.
	// Source: App Service, "REST endpoint reference" of managed identities.
	Endpoint, Secret string
	Client           *http.Client
	Log              io.Writer
	// Patience is how long what may pass (names, connections, a busy server) is
	// tried again; a refusal is for a twentieth of it. 0 is two minutes.
	Patience time.Duration
	// PlainHTTP lets URLs be http, which tests need.
	PlainHTTP bool
}

// ParseDownloads reads the list as it comes to a pod.
func ParseDownloads(text string) ([]Download, error) {
	var list []Download
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("the list of downloads: %w", err)
	}
	for _, one := range list {
		if !path.IsAbs(one.Path) || path.Clean(one.Path) != one.Path || one.Path == "/" {
			return nil, fmt.Errorf("the list of downloads: %q is no path", one.Path)
		}
	}
	return list, nil
}

const (
	storageResource = "https://storage.azure.com/"
	atOnce          = 8               // blobs
	attemptTime     = 5 * time.Minute // of one request
	defaultPatience = 2 * time.Minute
	firstPause      = 200 * time.Millisecond
	longestPause    = 5 * time.Second
)

// fetcher is a run.
type fetcher struct {
	Config
	mu    sync.Mutex // guards token
	token string
	lines sync.Mutex // one line at a time
}

// Run downloads everything. Its error is a sentence for who deploys.
func Run(ctx context.Context, c Config) error {
	if c.Client == nil {
		c.Client = &http.Client{}
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	f := &fetcher{Config: c}
	began := time.Now()
	for _, d := range c.Downloads {
		if err := f.download(ctx, d); err != nil {
			f.say("ERROR", "%v", err)
			return err
		}
	}
	f.say("INFO", "%d of %d downloads done in %s", len(c.Downloads), len(c.Downloads), time.Since(began).Round(time.Millisecond))
	return nil
}

func (f *fetcher) say(level, format string, args ...any) {
	f.lines.Lock()
	defer f.lines.Unlock()
	_, _ = fmt.Fprintf(f.Log, "%s %s [storage-initializer] %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), level, fmt.Sprintf(format, args...)) // there is nowhere else to say it
}

// place is a container and a name in it.
type place struct {
	base      url.URL // of the account
	container string
	name      string // without slashes at its ends; "" is the whole container
}

// parsePlace reads a URL of a blob or of a folder of blobs.
func parsePlace(text string, plain bool) (place, error) {
	u, err := url.Parse(text)
	if err != nil {
		return place{}, errors.New("a download's URL is none")
	}
	if u.Scheme != "https" && (!plain || u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return place{}, fmt.Errorf("%s://%s%s is no https URL of a blob without a query", u.Scheme, u.Host, u.Path) // a query may be a signature
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if container == "" {
		return place{}, fmt.Errorf("%q names no container", text)
	}
	return place{base: url.URL{Scheme: u.Scheme, Host: u.Host}, container: container, name: strings.Trim(name, "/")}, nil
}

func (p place) blob(name string) string {
	u := p.base
	u.Path = "/" + p.container + "/" + name
	return u.String()
}

func (p place) String() string { return p.blob(p.name) }

func (f *fetcher) download(ctx context.Context, d Download) error {
	p, err := parsePlace(d.URL, f.PlainHTTP)
	if err != nil {
		return err
	}
	f.say("INFO", "downloading %s to %s", p, d.Path)
	began := time.Now()
	blobs, err := f.list(ctx, p)
	if err != nil {
		return err
	}
	if len(blobs) == 0 {
		if p.name == "" {
			return fmt.Errorf("the container %s is empty", p)
		}
		n, err := f.blob(ctx, p.blob(p.name), filepath.Dir(d.Path), filepath.Base(d.Path))
		if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusNotFound {
			return fmt.Errorf("there is neither a blob nor a folder of blobs at %s", p)
		}
		if err == nil {
			f.say("INFO", "1 blob, %d bytes, in %s", n, time.Since(began).Round(time.Millisecond))
		}
		return err
	}
	var total int64
	var mu sync.Mutex // guards total
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, b := range blobs {
		rel, err := relative(p.name, b)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if rel == "" {
			continue // what stands for a folder
		}
		g.Go(func() error {
			n, err := f.blob(gctx, p.blob(b), d.Path, rel)
			mu.Lock()
			defer mu.Unlock()
			total += n
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	f.say("INFO", "%d blobs, %d bytes, in %s", len(blobs), total, time.Since(began).Round(time.Millisecond))
	return nil
}

// relative is where a blob of a folder belongs in it; "" is nowhere.
func relative(folder, name string) (string, error) {
	rel := name
	if folder != "" {
		rel = strings.TrimPrefix(name, folder+"/")
	}
	if rel == "" || strings.HasSuffix(rel, "/") {
		return "", nil
	}
	if !filepath.IsLocal(rel) || strings.ContainsAny(rel, "\\\x00") || path.Clean(rel) != rel {
		return "", fmt.Errorf("the blob %q has a name that no file in a folder can have", name)
	}
	return rel, nil
}

// refusal is an answer that is no success.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

// passes reports whether an error may pass by itself, and whether only soon.
func passes(err error) (again, soon bool) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return !errors.Is(err, errFile), false
	}
	switch {
	case r.status >= 500, r.status == http.StatusRequestTimeout, r.status == http.StatusTooManyRequests:
		return true, false
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden: // identity and roles may be as new as the pod
		return true, true
	}
	return false, false
}

// errFile is an error of this side.
var errFile = errors.New("writing a file")

// again does something until it is done, its error stays, or patience ends.
func (f *fetcher) again(ctx context.Context, what string, do func(context.Context) error) error {
	began, pause, said := time.Now(), firstPause, ""
	for {
		one, cancel := context.WithTimeout(ctx, attemptTime)
		err := do(one)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		most := f.Patience
		again, soon := passes(err)
		if soon {
			most /= 20
		}
		if !again || time.Since(began) > most {
			return fmt.Errorf("%s: %w", what, err)
		}
		if text := err.Error(); text != said {
			f.say("WARNING", "%s: %s; trying again", what, text)
			said = text
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}
