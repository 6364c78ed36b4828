package token

import "sync"

// cache is a bounded map. It keeps two generations: when the young one is full
// it becomes the old one, and what nobody asked for since is forgotten.
type cache[V any] struct {
	half int // entries in a generation

	mu    sync.Mutex // guards young and old
	young map[[32]byte]V
	old   map[[32]byte]V
}

func newCache[V any](size int) *cache[V] {
	return &cache[V]{half: max(size/2, 1), young: map[[32]byte]V{}}
}

func (c *cache[V]) get(k [32]byte) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.add(k, v)
	}
	return v, ok
}

func (c *cache[V]) put(k [32]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

// add is put with mu held.
func (c *cache[V]) add(k [32]byte, v V) {
	if len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[[32]byte]V, c.half/4)
	}
	c.young[k] = v
}

func (c *cache[V]) drop(k [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, k)
	delete(c.old, k)
}
