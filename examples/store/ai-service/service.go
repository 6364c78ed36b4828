package main

import (
	"log/slog"
	"net/http"
	"strings"
	"unicode/utf8"

	"lazurite.dev/examples/store/internal/httpd"
)

// What a product may have, so that a prompt stays short.
const (
	maxName = 200 // characters
	maxTag  = 100
	maxTags = 20
)

// service is the HTTP side.
type service struct {
	model *model
	why   error // there is no model
}

// newService serves with model; where that is nil every description is refused
// with why, so that the store says what is missing.
func newService(m *model, why error) http.Handler {
	s := &service{m, why}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("POST /generate/description", s.description)
	mux.HandleFunc("POST /generate/image", s.image)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpd.Detail(w, http.StatusNotFound, "Not Found. There are GET /health and POST /generate/description.")
	})
	return mux
}

func (s *service) health(w http.ResponseWriter, _ *http.Request) {
	can := []string{}
	if s.model != nil {
		can = append(can, "description")
	}
	httpd.JSON(w, http.StatusOK, map[string]any{"status": "ok", "version": httpd.Version(), "capabilities": can})
}

func (s *service) description(w http.ResponseWriter, r *http.Request) {
	var product struct {
		Name *string   `json:"name"`
		Tags *[]string `json:"tags"`
	}
	if !httpd.Read(w, r, &product) {
		return
	}
	if product.Name == nil || product.Tags == nil {
		httpd.Detail(w, http.StatusUnprocessableEntity, `A product needs both: {"name": "…", "tags": ["…"]}.`)
		return
	}
	name, tags := oneLine(*product.Name), []string{}
	for _, t := range *product.Tags {
		if t = oneLine(t); t != "" {
			tags = append(tags, t)
		}
		if utf8.RuneCountInString(t) > maxTag {
			httpd.Detail(w, http.StatusUnprocessableEntity, "A tag has at most %d characters.", maxTag)
			return
		}
	}
	switch n := utf8.RuneCountInString(name); {
	case n == 0 || n > maxName:
		httpd.Detail(w, http.StatusUnprocessableEntity, "The name of a product has 1 to %d characters.", maxName)
		return
	case len(tags) > maxTags:
		httpd.Detail(w, http.StatusUnprocessableEntity, "A product has at most %d tags.", maxTags)
		return
	}
	if s.model == nil {
		httpd.Detail(w, http.StatusInternalServerError, "Error generating description: %v", s.why)
		return
	}
	text, err := s.model.describe(r.Context(), name, tags)
	if r.Context().Err() != nil {
		return // nobody waits for it
	}
	if err != nil {
		why := s.model.reason(err)
		slog.Error("no description", "reason", why)
		httpd.Detail(w, http.StatusInternalServerError, "Error generating description: %s", why)
		return
	}
	httpd.JSON(w, http.StatusOK, map[string]string{"description": text})
}

// image is what aks-store-demo answers where no model for images is named.
func (s *service) image(w http.ResponseWriter, _ *http.Request) {
	httpd.Detail(w, http.StatusBadRequest, "This service draws no images; it writes descriptions, at /generate/description.")
}

// oneLine is s with single spaces and no line breaks: in a prompt it stays in its line.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
}
