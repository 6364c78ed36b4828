package main

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"lazurite.dev/examples/store/internal/httpd"
)

const (
	maxProducts    = 10_000
	maxName        = 200 // characters
	maxDescription = 4000
	maxImage       = 2000
	maxAnswer      = 1 << 20 // bytes that the ai-service may answer
)

// product is one, as aks-store-demo's services exchange it.
type product struct {
	ID          int     `json:"id"`
	Name        string  `json:"name"`
	Price       float64 `json:"price"` // in dollars
	Description string  `json:"description"`
	Image       string  `json:"image"` // a URL, or nothing
}

// service is the HTTP side and the products.
type service struct {
	ai     *url.URL
	client *http.Client

	mu       sync.Mutex
	products []product // by id
	last     int       // the highest id that was given
}

// newService serves the first products; texts come from the ai-service at ai.
func newService(ai *url.URL) http.Handler {
	s := &service{ai: ai, client: &http.Client{Transport: httpd.Direct(), Timeout: 2 * time.Minute}}
	for _, p := range first() {
		s.add(p)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ai/health", s.hop)
	mux.HandleFunc("POST /ai/generate/description", s.hop)
	mux.HandleFunc("POST /ai/generate/image", s.hop)
	mux.HandleFunc("GET /{$}", s.list)
	mux.HandleFunc("POST /{$}", s.post)
	mux.HandleFunc("PUT /{$}", s.put)
	mux.HandleFunc("GET /{id}", s.get)
	mux.HandleFunc("DELETE /{id}", s.delete)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { httpd.Detail(w, http.StatusNotFound, "Not Found") })
	return mux
}

func (s *service) health(w http.ResponseWriter, _ *http.Request) {
	httpd.JSON(w, http.StatusOK, map[string]string{"status": "ok", "version": httpd.Version()})
}

func (s *service) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	all := slices.Clone(s.products)
	s.mu.Unlock()
	httpd.JSON(w, http.StatusOK, all)
}

// at is the place of the product that the path names; the caller holds mu.
// Where there is none, it has answered.
func (s *service) at(w http.ResponseWriter, id string) (int, bool) {
	n, err := strconv.Atoi(id)
	i, found := s.find(n)
	if err != nil || !found {
		httpd.Detail(w, http.StatusNotFound, "There is no product %q.", id)
		return 0, false
	}
	return i, true
}

func (s *service) find(id int) (int, bool) {
	return slices.BinarySearchFunc(s.products, id, func(p product, id int) int { return p.ID - id })
}

func (s *service) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.at(w, r.PathValue("id")); ok {
		httpd.JSON(w, http.StatusOK, s.products[i])
	}
}

func (s *service) post(w http.ResponseWriter, r *http.Request) {
	p, ok := read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.products) >= maxProducts {
		httpd.Detail(w, http.StatusInsufficientStorage, "The store is full: it has %d products.", maxProducts)
		return
	}
	httpd.JSON(w, http.StatusOK, s.add(p))
}

// add gives p the next id.
func (s *service) add(p product) product {
	s.last++
	p.ID = s.last
	s.products = append(s.products, p)
	return p
}

func (s *service) put(w http.ResponseWriter, r *http.Request) {
	p, ok := read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.at(w, strconv.Itoa(p.ID)); ok {
		s.products[i] = p
		httpd.JSON(w, http.StatusOK, p)
	}
}

func (s *service) delete(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.at(w, r.PathValue("id")); ok {
		s.products = slices.Delete(s.products, i, i+1)
		w.WriteHeader(http.StatusOK)
	}
}

// read reads a product and says what is wrong with it. Where it is not one, it has answered.
func read(w http.ResponseWriter, r *http.Request) (product, bool) {
	var p product
	if !httpd.Read(w, r, &p) {
		return p, false
	}
	p.Name, p.Description = strings.TrimSpace(p.Name), strings.TrimSpace(p.Description)
	if wrong := p.wrong(); wrong != "" {
		httpd.Detail(w, http.StatusBadRequest, "%s", wrong)
		return p, false
	}
	return p, true
}

// wrong says what is wrong with the product, if anything.
func (p *product) wrong() string {
	switch {
	case p.Name == "":
		return "A product needs a name."
	case utf8.RuneCountInString(p.Name) > maxName:
		return fmt.Sprintf("The name is longer than %d characters.", maxName)
	case math.IsNaN(p.Price) || p.Price < 0 || p.Price > 1e6:
		return "The price must be from 0 to 1,000,000."
	case utf8.RuneCountInString(p.Description) > maxDescription:
		return fmt.Sprintf("The description is longer than %d characters.", maxDescription)
	case len(p.Image) > maxImage:
		return fmt.Sprintf("The image's address is longer than %d bytes.", maxImage)
	}
	return ""
}

// hop asks the ai-service what was asked of this one, below /ai.
func (s *service) hop(w http.ResponseWriter, r *http.Request) {
	to := s.ai.JoinPath(strings.TrimPrefix(r.URL.Path, "/ai"))
	ask, err := http.NewRequestWithContext(r.Context(), r.Method, to.String(), http.MaxBytesReader(w, r.Body, httpd.MaxBody))
	if err != nil {
		httpd.Detail(w, http.StatusInternalServerError, "The request to the ai-service cannot be made.")
		return
	}
	ask.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(ask)
	if err != nil {
		if r.Context().Err() == nil {
			slog.Error("the ai-service does not answer", "url", to.Redacted(), "error", err)
			httpd.Detail(w, http.StatusBadGateway, "The ai-service does not answer at %s. Does its pod run? kubectl get pods --selector app=ai-service", s.ai.Redacted())
		}
		return
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		httpd.Detail(w, http.StatusBadGateway, "The answer of the ai-service ended early.")
		return
	}
	if kind := answer.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(body) // who asked may be gone
}

// first are the products that a new store has.
func first() []product {
	return []product{
		{Name: "Captain's Quarters Cat Tree", Price: 89.9, Description: "Three decks, two hammocks and a lookout on top. Every cat aboard finds a bunk, and the sisal mast keeps claws off the sofa."},
		{Name: "Tidal Tennis Balls", Price: 7.5, Description: "A set of three that float, squeak and survive the surf. Throw them off the pier; the dog will see to the rest."},
		{Name: "Lighthouse Night Collar", Price: 18, Description: "A soft collar with a light that can be seen across the bay. It charges over USB and shines for eight evenings."},
		{Name: "Barnacle Chew Ring", Price: 11.25, Description: "Natural rubber with ridges that clean teeth while the sea dog chews. It is tough enough for the first mate, and gentle on gums."},
		{Name: "Galley Slow Bowl", Price: 14.6, Description: "A bowl with a maze of waves for the sailor who eats too fast. It stays put on deck, and goes into the dishwasher."},
		{Name: "Driftwood Perch", Price: 23.4, Description: "A natural branch for parrots and their pirates. It fits every common cage, and no two are alike."},
	}
}
