package server

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed start.html
var startText string

var startTemplate = template.Must(template.New("start").Parse(startText))

// start is what the start page shows: nothing that is a secret, since every
// user of the machine can open it.
type start struct {
	Nonce, Owner, Version, Uptime string
	Offline, AzureLike            bool
	Surfaces                      []startSurface
	Clusters                      []string
}

type startSurface struct {
	Title, Shown string
	Serving      bool
}

// startPage greets who opens the local address: a page for browsers, lines for
// a terminal.
func (s *Server) startPage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
	p := start{
		Nonce: rand.Text(), Owner: s.system.Owner, Version: Version(), Uptime: span(time.Since(s.started)),
		Offline: s.cfg.Offline, AzureLike: s.cfg.AzureLike, Clusters: s.ClusterNames(r.Context()),
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Lazurite %s is running (owner %s).\n\nThis address is its proxy for programs on this machine. To use it:\n\n    eval \"$(laz env)\"\n    az group list\n\n",
			p.Version, p.Owner)
		if len(p.Clusters) > 0 {
			fmt.Fprintf(w, "Clusters: %s\n", strings.Join(p.Clusters, ", "))
		}
		fmt.Fprintln(w, "More: laz status")
		return
	}
	for _, f := range families() {
		_, serving := s.system.Surfaces[f.surface]
		name := f.own + "." + s.cfg.Domain
		if s.cfg.Names == NamesAzure {
			name = f.azure[0]
		}
		p.Surfaces = append(p.Surfaces, startSurface{f.title, strings.Replace(name, "**.", "*.", 1), serving})
	}
	var b bytes.Buffer
	if err := startTemplate.Execute(&b, p); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%s'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'", p.Nonce))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b.Bytes()) // a browser that went away
}

// span is d in words, in its largest unit.
func span(d time.Duration) string {
	n, unit := int(d/time.Second), "second"
	switch {
	case d >= 48*time.Hour:
		n, unit = int(d/(24*time.Hour)), "day"
	case d >= 2*time.Hour:
		n, unit = int(d/time.Hour), "hour"
	case d >= 2*time.Minute:
		n, unit = int(d/time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
