package compute

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store/sqlstore"
)

// computes are a workspace's, as far as a build asks for them: an API server
// whose pods are ready at once, and what answers in them.
type computes struct {
	*httptest.Server
	pod  *httptest.Server
	none error // why there are no computes

	mu      sync.Mutex // guards what follows
	objects map[string]map[string]any
	stuck   bool // nothing is taken away
}

func newComputes(t *testing.T, pod http.HandlerFunc) *computes {
	c := &computes{objects: map[string]map[string]any{}, pod: httptest.NewServer(pod)}
	c.Server = httptest.NewTLSServer(c)
	t.Cleanup(c.Close)
	t.Cleanup(c.pod.Close)
	return c
}

func (c *computes) Name() string                                                   { return "embedded" }
func (c *computes) Apply(context.Context, cluster.Spec, func(cluster.Phase)) error { return nil }
func (c *computes) Remove(context.Context, string) error                           { return nil }
func (c *computes) Status(context.Context) ([]node.ClusterStatus, error)           { return nil, nil }
func (c *computes) LoadImage(context.Context, string, io.Reader) ([]string, error) { return nil, nil }
func (c *computes) Offer(context.Context) ([]string, error)                        { return []string{"1.34.2"}, c.none }
func (c *computes) DialPod(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return net.Dial("tcp", c.pod.Listener.Addr().String())
}

func (c *computes) Access(context.Context, string) (cluster.Access, error) {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	return cluster.Access{Server: c.URL, CA: ca}, nil
}

func (c *computes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var answer any = map[string]any{}
	switch r.Method {
	case http.MethodPatch:
		var o map[string]any
		_ = json.NewDecoder(r.Body).Decode(&o)
		o["status"] = map[string]any{"podIP": "10.244.0.9", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
		c.objects[r.URL.Path], answer = o, o
	case http.MethodDelete:
		if c.stuck {
			http.Error(w, `{"message":"etcd has no leader"}`, http.StatusInternalServerError)
			return
		}
		delete(c.objects, r.URL.Path)
	case http.MethodGet:
		if o, is := c.objects[r.URL.Path]; is {
			answer = o
			break
		}
		items := []any{}
		for p, o := range c.objects {
			if path.Dir(p) == r.URL.Path {
				items = append(items, o)
			}
		}
		answer = map[string]any{"items": items}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// left are the pods and ConfigMaps that are there.
func (c *computes) left() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, p := range slices.Sorted(maps.Keys(c.objects)) {
		if kind := path.Base(path.Dir(p)); kind == "pods" || kind == "configmaps" {
			names = append(names, path.Base(p))
		}
	}
	return strings.Join(names, " ")
}

// put has a pod and a ConfigMap of a build be there.
func (c *computes) put(build string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range []string{"pods", "configmaps"} {
		c.objects["/api/v1/namespaces/builds/"+kind+"/"+build] = map[string]any{"metadata": map[string]any{"name": build, "labels": map[string]any{labelBuild: build}}}
	}
}

const buildWorkspace = "0a0a0a0a-1111-4222-8333-444444444444"

// over is a service upon them, with the workspace's cluster running.
func over(c *computes, log io.Writer) *Compute {
	s := New(Config{Driver: c, Agent: c, Log: slog.New(slog.NewTextHandler(log, nil)), Trust: func() ([]byte, error) { return []byte("PEM"), nil }})
	s.host(buildWorkspace).up = true
	return s
}

func oneBuild(t *testing.T) Build {
	t.Helper()
	id, err := rid.Parse("/subscriptions/66666666-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w")
	if err != nil {
		t.Fatal(err)
	}
	return Build{Workspace: id, WorkspaceUID: buildWorkspace, For: "ep/blue", Image: "x:1", Command: []string{"c"}, Most: 4}
}

func TestBuild_HandsOutWhatItMade(t *testing.T) {
	c := newComputes(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made") })
	var out bytes.Buffer
	if _, err := over(c, io.Discard).Build(t.Context(), oneBuild(t), &out, nil); err != nil || out.String() != "made" || c.left() != "" {
		t.Errorf("got %q, %v, left behind: %s", out.String(), err, c.left())
	}
}

func TestBuild_IsGoodWhereItIsNotTakenAway(t *testing.T) {
	c := newComputes(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made") })
	c.stuck = true
	var out, log bytes.Buffer
	s := over(c, &log)
	if _, err := s.Build(t.Context(), oneBuild(t), &out, nil); err != nil || out.String() != "made" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if !strings.Contains(log.String(), "etcd has no leader") || c.left() == "" {
		t.Errorf("there are %q, the log says %s", c.left(), log.String())
	}
	c.stuck = false
	if _, err := s.Build(t.Context(), oneBuild(t), io.Discard, nil); err != nil || c.left() != "" {
		t.Errorf("after the next build: %v, left behind: %s", err, c.left())
	}
}

func TestBuild_Refusals(t *testing.T) {
	good := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made") }
	for name, tt := range map[string]struct {
		pod  http.HandlerFunc
		none error
		code string
		text string
	}{
		"no computes":  {good, cluster.Unavailable("there is no node agent"), CodeNoSupport, "Builds can't run here: "},
		"nothing made": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusNotFound) }, nil, CodeImage, "the build hands out nothing: 404"},
		"too much":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "makes") }, nil, CodeImage, "the build made more than 4 bytes"},
		"another place": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.example/")
			w.WriteHeader(http.StatusFound)
		}, nil, CodeImage, "the build hands out nothing: 302"},
	} {
		c := newComputes(t, tt.pod)
		c.none = tt.none
		_, err := over(c, io.Discard).Build(t.Context(), oneBuild(t), io.Discard, nil)
		if f, is := err.(*Failure); !is || f.Code != tt.code || !strings.Contains(f.Message, tt.text) {
			t.Errorf("%s: got %v", name, err)
		}
		if c.left() != "" {
			t.Errorf("%s: left behind: %s", name, c.left())
		}
	}
}

// What a server that was killed left goes when the next one starts, and what
// runs stays.
func TestBuild_WhatACrashLeftGoesAtTheStart(t *testing.T) {
	c := newComputes(t, http.NotFound)
	s := over(c, io.Discard)
	for i := range 3 {
		c.put(fmt.Sprintf("build-%d", i))
	}
	defer s.begun("build-1")()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	s.cfg.Store = st
	b := oneBuild(t)
	if err := s.again(t.Context(), networkDoc{Workspace: Workspace{UID: buildWorkspace, Name: "w"}, ID: b.Workspace.String()}); err != nil {
		t.Fatal(err)
	}
	if got := c.left(); got != "build-1 build-1" {
		t.Errorf("there are %s", got)
	}
}
