package telemetry

import (
	"sync"
	"time"
)

// What is taken of printed lines, in bytes: a container that prints in a loop
// neither fills the memory nor keeps the database busy that all else needs.
const (
	lineRate  = 256 << 10 // of a workspace in a second
	lineBurst = 1 << 20   // of a workspace at once
	mostLines = 16 << 20  // that wait, of all workspaces
)

// intake says which lines are taken.
type intake struct {
	mu      sync.Mutex // guards what follows
	waiting int        // bytes of the lines that wait
	buckets map[string]bucketOf
}

// bucketOf is what a workspace may have taken.
type bucketOf struct {
	left float64
	at   time.Time
}

func (b bucketOf) filled(now time.Time) bucketOf {
	return bucketOf{min(lineBurst, b.left+max(0, now.Sub(b.at).Seconds())*lineRate), now}
}

// take says whether a line of a workspace is taken, and counts it if it is.
func (i *intake) take(workspace string, bytes int, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, ok := i.buckets[workspace]
	if !ok {
		b = bucketOf{lineBurst, now}
	}
	b = b.filled(now)
	if b.left < float64(bytes) || i.waiting+bytes > mostLines {
		return false
	}
	b.left -= float64(bytes)
	i.waiting += bytes
	i.buckets[workspace] = b
	return true
}

// taken counts that a line waits no longer.
func (i *intake) taken(bytes int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting -= bytes
}

// forget drops what is known of workspaces that have printed little lately.
func (i *intake) forget(now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for w, b := range i.buckets {
		if b.filled(now).left == lineBurst {
			delete(i.buckets, w)
		}
	}
}

// bytes is what a line takes, about.
func (l *Line) bytes() int { return overhead + len(l.Text) }
