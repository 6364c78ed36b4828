// Package tinywriter is the model that Lazurite brings along: a small language
// model, trained by what lies in train/, that drafts two or three sentences
// about a product from its name and tags, and nothing else.
//
// [Handler] speaks OpenAI's API (POST /v1/chat/completions, GET /v1/models) so
// that it is one more backend to the gateway. The weights are part of the
// binary, as the GGUF file that other engines read too. They are read at the
// first call: a program that never calls the model pays nothing for it.
//
// A draft must use the name and every tag as the caller wrote them. One that
// does not is thrown away and another is drawn; after the last a sentence from
// a template takes its place, and system_fingerprint says so. So a streamed
// answer is drafted whole before its first token is sent: that takes
// milliseconds, and a token once sent can't be taken back.
package tinywriter

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// Name is the model's name, in the list of models and in every answer.
const Name = "tiny-writer"

const (
	maxBody    = 1 << 20 // bytes of a request
	maxWaiting = 512     // requests that wait for their turn; each holds a product and its parameters, not its body
)

// server answers the API.
type server struct {
	turns   chan struct{} // holds one for each draft that is being written
	waiting atomic.Int64
	open    func() (*Writer, error) // reads the weights, once
}

// Handler is the model's API. It is safe for concurrent use: as many drafts
// are written at once as there are processors, more wait for their turn, and
// where too many wait it answers 429.
func Handler() http.Handler { return newServer(sync.OnceValues(Open)).routes() }

func newServer(open func() (*Writer, error)) *server {
	return &server{turns: make(chan struct{}, runtime.GOMAXPROCS(0)), open: open}
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /v1/models/{name}", s.model)
	mux.HandleFunc("/", unknown)
	return mux
}

type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// entry is the model as the list shows it; it was made when its weights were.
func entry() modelEntry {
	return modelEntry{ID: Name, Object: "model", Created: 1795402800, OwnedBy: "lazurite"}
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []modelEntry{entry()}})
}

func (s *server) model(w http.ResponseWriter, r *http.Request) {
	if name := r.PathValue("name"); name != Name {
		writeError(w, &apiError{status: http.StatusNotFound, code: "model_not_found", param: "model", message: "The model '" + clip(name, 64) + "' does not exist: the built-in model is '" + Name + "'."})
		return
	}
	writeJSON(w, http.StatusOK, entry())
}

// setting is what every refusal points at.
const setting = "Configure a model that can under `models:` in Lazurite's configuration (docs/models.md)."

// unknown answers for what the model can't do, each by its name.
func unknown(w http.ResponseWriter, r *http.Request) {
	what := map[string]string{
		"embeddings": "make embeddings", "completions": "complete plain text", "responses": "serve the Responses API",
		"moderations": "moderate", "images/generations": "make images", "audio/speech": "speak", "audio/transcriptions": "transcribe",
	}[strings.Trim(strings.TrimPrefix(r.URL.Path, "/v1"), "/")]
	switch {
	case what != "" && r.Method == http.MethodPost:
		writeError(w, &apiError{status: http.StatusBadRequest, code: "unsupported_operation", message: "The built-in model " + Name + " drafts product descriptions over chat completions; it can't " + what + ". " + setting})
	case what != "" || r.URL.Path == "/v1/chat/completions" || strings.HasPrefix(r.URL.Path, "/v1/models"):
		writeError(w, &apiError{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "Not allowed method " + clip(r.Method, 16) + " for this path."})
	default:
		writeError(w, &apiError{status: http.StatusNotFound, code: "unknown_url", message: "Unknown request URL: " + clip(r.Method+" "+r.URL.Path, 128) + ". The built-in model " + Name + " serves chat completions only. " + setting})
	}
}

// errBusy says that too many requests wait already.
var errBusy = errors.New("too many requests wait for the built-in model")
