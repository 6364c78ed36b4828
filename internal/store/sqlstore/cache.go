package sqlstore

import (
	"bytes"
	"container/list"
	"sync"

	"lazurite.dev/internal/store"
)

// The limits of a cache.
const (
	cacheBytes    = 4 << 20  // of all documents
	cacheDocBytes = 32 << 10 // of one; larger ones are read each time
	cacheOverhead = 200      // bytes that an entry counts beside its document
)

// cache keeps documents that were read lately, and keys that were found free,
// for a database that this process alone writes. It never gives what is older
// than the last commit: the writer takes the keys of a write out before it
// commits, and until it has, what readers find in the database under them is
// not kept. The nil cache keeps nothing.
type cache struct {
	mu    sync.Mutex // guards everything below
	docs  map[string]*list.Element
	used  *list.List       // of *store.Doc; what was used last is first
	size  int              // bytes
	fills map[string]*fill // reads in progress
	busy  map[string]bool  // keys of the write in progress
}

// fill is a read whose result may be kept, unless a write came in between.
type fill struct {
	readers int
	spoilt  bool
}

func newCache() *cache {
	return &cache{docs: map[string]*list.Element{}, used: list.New(), fills: map[string]*fill{}, busy: map[string]bool{}}
}

// get gives the document, one without a Rev for a key that is free. The value
// is the caller's own. If it is not there, the caller reads it and calls put.
func (c *cache) get(key string) (doc store.Doc, ok bool, f *fill) {
	if c == nil {
		return doc, false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.docs[key]; e != nil {
		c.used.MoveToFront(e)
		doc = *e.Value.(*store.Doc)
		doc.Value = bytes.Clone(doc.Value)
		return doc, true, nil
	}
	if c.busy[key] {
		return doc, false, nil
	}
	f = c.fills[key]
	if f == nil {
		f = &fill{}
		c.fills[key] = f
	}
	f.readers++
	return doc, false, f
}

// put ends a read that get began: keep says that doc is what was found.
func (c *cache) put(f *fill, doc store.Doc, keep bool) {
	if f == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.readers--; f.readers == 0 && c.fills[doc.Key] == f {
		delete(c.fills, doc.Key)
	}
	if !keep || f.spoilt || len(doc.Value) > cacheDocBytes || c.docs[doc.Key] != nil {
		return
	}
	doc.Value = bytes.Clone(doc.Value)
	c.docs[doc.Key] = c.used.PushFront(&doc)
	for c.size += weight(&doc); c.size > cacheBytes; {
		c.drop(c.used.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	d := c.used.Remove(e).(*store.Doc)
	delete(c.docs, d.Key)
	c.size -= weight(d)
}

func weight(d *store.Doc) int { return cacheOverhead + len(d.Key) + len(d.Kind) + len(d.Value) }

// begin forgets the keys of a write; end says that its outcome is decided.
func (c *cache) begin(ops []*op) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range ops {
		key := o.doc.Key
		if e := c.docs[key]; e != nil {
			c.drop(e)
		}
		if f := c.fills[key]; f != nil {
			f.spoilt = true
			delete(c.fills, key)
		}
		c.busy[key] = true
	}
}

func (c *cache) end() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.busy)
}
