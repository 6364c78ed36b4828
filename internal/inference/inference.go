// Package inference knows which models there are and which servers answer for
// them.
//
// A [Catalog] is made of the `models:` of the configuration, of an Ollama that
// runs on this machine and of the built-in model. It gives a call to one of a
// model's backends, by weight and health, tries the next one as long as nothing
// of an answer has been seen, and hands the answer back unread: it knows nothing
// of accounts, deployments, roles or limits.
package inference

import (
	"io"
	"net/http"
)

// Operation is what is asked of a model: the path below a backend's prefix.
// Source: OpenAI API reference.
type Operation string

// The operations that backends are asked for.
const (
	Chat        Operation = "chat/completions"
	Completions Operation = "completions"
	Embeddings  Operation = "embeddings"
	Responses   Operation = "responses"
	Images      Operation = "images/generations"
)

// FormatOpenAI is the format of models that speak OpenAI's API: the only one.
const FormatOpenAI = "OpenAI"

// Where a model of the catalogue comes from.
const (
	SourceBuiltin = "builtin/tiny-writer" // the usual names, served by the built-in model
	SourceConfig  = "configuration"
	SourceOllama  = "ollama"
)

// TinyWriter is the built-in model's own name.
const TinyWriter = "tiny-writer"

// Model is one model, in one version, that can be deployed.
type Model struct {
	Name    string // as a deployment names it: "gpt-4o-mini"
	Version string // as a deployment names it: "2024-07-18"
	Format  string // FormatOpenAI
	Default bool   // the version that a deployment gets which names none
	Source  string // SourceBuiltin, SourceConfig, SourceOllama

	Capabilities Capabilities
}

// Builtin reports whether the built-in model answers for m, whatever its name.
func (m *Model) Builtin() bool { return m.Source == SourceBuiltin }

// Capabilities is what a model can do. Tools and the two maxima are told to
// clients and not enforced; backends do that.
type Capabilities struct {
	Chat        bool `yaml:"chat" json:"chat"`
	Completions bool `yaml:"completions" json:"completions"`
	Embeddings  bool `yaml:"embeddings" json:"embeddings"`
	Responses   bool `yaml:"-" json:"responses"`   // a backend has it itself, or Chat is translated
	Images      bool `yaml:"images" json:"images"` // images/generations
	Tools       bool `yaml:"tools" json:"tools"`
	MaxContext  int  `yaml:"maxContext" json:"maxContext,omitempty"` // tokens; 0: not known
	MaxOutput   int  `yaml:"maxOutput" json:"maxOutput,omitempty"`   // tokens; 0: not known
}

// Can reports whether a model with these capabilities does op, itself or
// translated.
func (c Capabilities) Can(op Operation) bool {
	switch op {
	case Chat:
		return c.Chat
	case Completions:
		return c.Completions
	case Embeddings:
		return c.Embeddings
	case Responses:
		return c.Responses || c.Chat
	case Images:
		return c.Images
	default:
		return false
	}
}

// Call is one request to a model.
type Call struct {
	Operation Operation
	Body      []byte      // a JSON object that Peek accepted; its "model" is replaced by the backend's own name
	Set       []Member    // what else of Body is replaced
	Stream    bool        // as Peek's Fields say
	Header    http.Header // of the client; backends get its tracing and request ids alone
	Key       string      // who calls: callers take turns where a backend is full
}

// Answer is what a backend answered, whatever its status.
type Answer struct {
	Status     int
	Header     http.Header   // the backend's, without hop-by-hop fields
	Body       io.ReadCloser // unread; to be closed, which ends the call to the backend too
	Backend    string        // the backend's name, for log, metrics and explain
	Host       string        // where it is, which clients are not told; empty: the built-in model
	Attempts   int           // how many backends were asked, this one included
	Tried      []Attempt     // those of them that could not answer, the last one too where none could
	Translated bool          // the backend was asked for another operation (responses as chat)
}

// Attempt is a backend that could not answer.
type Attempt struct {
	Backend string
	Problem string // in words; never a secret or an address
}
