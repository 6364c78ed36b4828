package openai

import (
	"errors"
	"io"
	"sync"
)

// What requests may hold in memory together until their answers begin, in
// bytes, and the part of it that one caller gets.
const (
	mostBodies  = 512 << 20
	callersPart = 4
)

var errCrowded = errors.New("requests hold all the memory that there is for them")

// bodies are the bytes of requests that are being read or wait for an answer.
type bodies struct {
	most int64

	mu  sync.Mutex // guards the rest
	all int64
	of  map[string]int64 // by caller
}

func (b *bodies) take(who string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all+n > b.most || b.of[who]+n > b.most/callersPart {
		return false
	}
	if b.of == nil {
		b.of = map[string]int64{}
	}
	b.all += n
	b.of[who] += n
	return true
}

func (b *bodies) give(who string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= n
	if b.of[who] -= n; b.of[who] <= 0 {
		delete(b.of, who)
	}
}

// held is a request's body, of which each byte that came is counted until it is let go.
type held struct {
	io.ReadCloser
	of  *bodies
	who string
	n   int64
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if n > 0 {
		if !h.of.take(h.who, int64(n)) {
			return 0, errCrowded
		}
		h.n += int64(n)
	}
	return n, err
}

// letGo may be called again.
func (h *held) letGo() {
	h.of.give(h.who, h.n)
	h.n = 0
}
