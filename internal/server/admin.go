package server

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/web"
)

const maxAdminBody = 64 << 10

// Status is what `laz status` shows.
type Status struct {
	Endpoint
	Uptime    float64         `json:"uptimeSeconds"`
	Home      string          `json:"home"`
	Names     string          `json:"names"`
	Domain    string          `json:"domain"`
	Offline   bool            `json:"offline"`
	AzureLike bool            `json:"azureLike"`
	Store     StoreStatus     `json:"store"`
	Memory    MemoryStatus    `json:"memory"`
	Counts    map[string]int  `json:"counts"`
	Surfaces  []SurfaceStatus `json:"surfaces"`
	Agent     AgentState      `json:"nodeAgent"`
	Clusters  []ClusterState  `json:"clusters"`

	Models   []inference.ModelStatus `json:"models"`
	Networks []NetworkState          `json:"networks"`
}

// StoreStatus is the database.
type StoreStatus struct {
	Kind  string `json:"kind"` // "sqlite" or "postgres"
	Path  string `json:"path,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
}

// MemoryStatus is in bytes.
type MemoryStatus struct {
	Resident int64 `json:"resident"` // 0 when the system does not say
	Heap     int64 `json:"heap"`
}

// SurfaceStatus is one surface.
type SurfaceStatus struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Serving bool     `json:"serving"` // false: its names are owned, and nothing is behind them
	Names   []string `json:"names"`   // Azure's
	Own     string   `json:"own"`     // under the domain
}

// adminHandler answers on the admin socket, which only its user can open.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/doctor", s.doctor)
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) { web.WriteJSON(w, http.StatusOK, s.models()) })
	mux.HandleFunc("POST /v1/models/test", answer(s.testModel))
	mux.HandleFunc("GET /v1/networks", s.listNetworks)
	mux.HandleFunc("POST /v1/networks/find", answer(s.findNetwork))
	mux.HandleFunc("POST /v1/serviceaccount-token", answer(s.system.ServiceAccountToken))
	mux.HandleFunc("POST /v1/run-secret", answer(s.system.RunSecret))
	mux.HandleFunc("POST /v1/run-end", answer(s.system.EndRun))
	mux.HandleFunc("POST /v1/rotate/token-key", answer(s.system.RotateTokenKey))
	mux.HandleFunc("POST /v1/rotate/root-key", answer(s.system.RotateRootKey))
	for pattern, h := range s.system.Admin {
		mux.Handle(pattern, h)
	}
	all := http.NewServeMux()
	all.Handle("/v1/clusters/", s.imagesHandler())
	all.Handle("/v1/images", s.imagesHandler())
	all.Handle("/", s.wrap("admin", mux))
	return all
}

// answer is a handler that reads Q, calls f and writes what it returns.
func answer[Q, A any](f func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fail := func(err error) {
			web.EventFrom(r.Context()).Fail(err)
			web.WriteError(w, apierr.From(err))
		}
		if f == nil {
			fail(apierr.New(apierr.NotImplemented, "NotAvailable", "This server has nothing that could answer that."))
			return
		}
		var q Q
		if err := web.ReadJSON(r, maxAdminBody, &q); err != nil {
			fail(err)
			return
		}
		a, err := f(r.Context(), q)
		if err != nil {
			fail(err)
			return
		}
		web.WriteJSON(w, http.StatusOK, a)
	}
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	st := Status{
		Endpoint: s.endpoint(), Uptime: time.Since(s.started).Round(time.Millisecond).Seconds(), Home: s.cfg.Home,
		Names: s.cfg.Names, Domain: s.cfg.Domain, Offline: s.cfg.Offline, AzureLike: s.cfg.AzureLike,
		Store: s.storeStatus(), Memory: MemoryStatus{Resident: resident(), Heap: int64(mem.HeapAlloc)},
		Counts: map[string]int{}, Models: s.models(),
	}
	for _, f := range families() {
		_, serving := s.system.Surfaces[f.surface]
		st.Surfaces = append(st.Surfaces, SurfaceStatus{f.surface, f.title, serving, f.azure, f.own + "." + s.cfg.Domain})
	}
	var err error
	if s.system.Counts != nil {
		st.Counts, err = s.system.Counts(r.Context())
	}
	if err == nil {
		st.Clusters, st.Agent, err = s.clusters(r.Context())
	}
	if err == nil {
		st.Networks, err = s.virtual.show(r.Context())
	}
	if err != nil {
		web.EventFrom(r.Context()).Fail(err)
		web.WriteError(w, apierr.From(err))
		return
	}
	web.WriteJSON(w, http.StatusOK, st)
}

// ModelTest asks for one small call to each backend of a model.
type ModelTest struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // empty: the default one
}

func (s *Server) models() []inference.ModelStatus {
	if s.system.Models == nil {
		return nil
	}
	return s.system.Models.Status()
}

func (s *Server) testModel(ctx context.Context, q ModelTest) ([]inference.TestResult, error) {
	if s.system.Models == nil {
		return nil, apierr.New(apierr.NotImplemented, "NotAvailable", "This server has no models.")
	}
	return s.system.Models.Test(ctx, q.Name, q.Version)
}

func (s *Server) storeStatus() StoreStatus {
	if s.cfg.Store.PostgresDSNFile != "" {
		return StoreStatus{Kind: "postgres"}
	}
	st := StoreStatus{Kind: "sqlite", Path: dbPath(s.home)}
	for _, suffix := range []string{"", "-wal"} {
		if fi, err := os.Stat(st.Path + suffix); err == nil {
			st.Bytes += fi.Size()
		}
	}
	return st
}

// resident is the memory that this process occupies, where Linux says it.
func resident() int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
