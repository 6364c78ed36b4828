package openai

import (
	"math"
	"sync"
	"time"
)

// A deployment's limits are two pools, of tokens and of requests, that fill
// evenly: a minute fills an empty one. As long as nobody is refused, whoever
// comes takes from all of it. Whoever was refused in the last minute has a share
// of its own, and what flows in is divided evenly among those shares and the
// rest, from which newcomers take: so one noisy caller can use up all that
// nobody else wants, and can't keep another from its part.
const (
	heldFor      = time.Minute // a share lasts so long after the last refusal
	mostShares   = 256         // of one deployment; who comes later takes what is for newcomers
	newcomers    = 0.1         // of the limit: what is kept for those without a share
	mostPools    = 4096        // deployments whose limits are kept ready
	longestWait  = time.Minute // clients take no longer one from a header
	epsilonUnits = 1e-6
)

// pool is one limit of a deployment, guarded by its deployment's mutex.
type pool struct {
	limit  float64 // units a minute, and the most at once
	at     time.Time
	free   float64
	shares map[string]*share
}

// share is what is kept for one principal. It is below zero while the principal
// has had more than it was due, by a minute's worth at most, as Azure counts in
// minutes. A debt stays its own: the share lasts until it is paid.
type share struct {
	units float64
	until time.Time
}

func newPool(limit float64, now time.Time) *pool {
	return &pool{limit: limit, at: now, free: limit}
}

// most is how much a share may gather.
func (p *pool) most() float64 { return p.limit / float64(max(1, len(p.shares))) }

// mostFree is how much those without a share may find.
func (p *pool) mostFree() float64 {
	if len(p.shares) == 0 {
		return p.limit
	}
	return p.limit * newcomers
}

// advance lets in what is due since the last time.
func (p *pool) advance(now time.Time) {
	due := max(0, now.Sub(p.at).Seconds()) * p.limit / 60
	p.at = now
	for who, s := range p.shares {
		if now.After(s.until) && s.units >= 0 {
			p.free += s.units
			delete(p.shares, who)
		}
	}
	if over := p.free - p.mostFree(); over > 0 {
		p.free -= over
		due += over
	}
	// What one has no room for goes to those that have.
	for due > epsilonUnits {
		takers := 0
		if room(p.free, p.mostFree()) > 0 {
			takers++
		}
		for _, s := range p.shares {
			if room(s.units, p.most()) > 0 {
				takers++
			}
		}
		if takers == 0 {
			return
		}
		part := due / float64(takers)
		due -= fill(&p.free, part, p.mostFree())
		for _, s := range p.shares {
			due -= fill(&s.units, part, p.most())
		}
	}
}

// room is what have lacks of most; crumbs are none.
func room(have, most float64) float64 {
	if most-have < epsilonUnits {
		return 0
	}
	return most - have
}

// fill adds part to have, as far as there is room, and says how much that was.
func fill(have *float64, part, most float64) float64 {
	got := min(part, room(*have, most))
	*have += got
	return got
}

// has is what a principal may take, and the most that it could ever find.
func (p *pool) has(who string) (units, most float64) {
	if s := p.shares[who]; s != nil {
		return s.units, p.most()
	}
	return p.free, p.mostFree()
}

// fits reports whether a principal may take n. Of what is larger than all that
// it could ever find, that much has to be there; the rest is owed.
func (p *pool) fits(who string, n float64) bool {
	have, most := p.has(who)
	return have+epsilonUnits >= min(n, most)
}

// take takes n, or gives back where n is negative.
func (p *pool) take(who string, n float64) {
	if s := p.shares[who]; s != nil {
		s.units = max(min(s.units-n, p.most()), -p.limit)
		return
	}
	if n > p.free && p.free >= 0 && len(p.shares) < mostShares {
		s := p.hold(who) // who owes, owes by itself
		s.units, p.free = max(p.free-n, -p.limit), 0
		return
	}
	p.free = max(min(p.free-n, p.limit), -p.limit)
}

// hold gives a principal a share, or lets it last.
func (p *pool) hold(who string) *share {
	s := p.shares[who]
	if s == nil {
		if len(p.shares) >= mostShares {
			return &share{}
		}
		if p.shares == nil {
			p.shares = map[string]*share{}
		}
		s = &share{}
		p.shares[who] = s
	}
	s.until = p.at.Add(heldFor)
	return s
}

// wait is how long it takes until n fits, where nobody else takes anything. All
// get equal parts of what flows in, those that have no room none.
func (p *pool) wait(who string, n float64) time.Duration {
	have, most := p.has(who)
	need := max(0, min(n, most)-have)
	units := need - max(0, p.free-p.mostFree())
	if p.shares[who] != nil {
		units += min(need, room(p.free, p.mostFree()))
	}
	for k, s := range p.shares {
		if k != who {
			units += min(need, room(s.units, p.most()))
		}
	}
	seconds := units / p.limit * 60
	return min(longestWait, max(time.Millisecond, time.Duration(math.Ceil(seconds*1000))*time.Millisecond))
}

// resize follows a changed capacity.
func (p *pool) resize(limit float64) {
	if limit == p.limit {
		return
	}
	scale := limit / p.limit
	p.limit, p.free = limit, p.free*scale
	for _, s := range p.shares {
		s.units *= scale
	}
}

// quota is both limits of one deployment.
type quota struct {
	mu       sync.Mutex // guards the rest
	tokens   *pool
	requests *pool
	used     time.Time
}

// quotas are those of all deployments.
type quotas struct {
	now func() time.Time

	mu  sync.Mutex // guards all
	all map[string]*quota
}

// allowance is a deployment's limits, a minute.
type allowance struct{ tokens, requests float64 }

// get finds the quota of a deployment.
func (q *quotas) get(key string, a allowance) *quota {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.all[key]
	if d == nil {
		if q.all == nil {
			q.all = map[string]*quota{}
		}
		if len(q.all) >= mostPools {
			q.forget(now)
		}
		d = &quota{tokens: newPool(a.tokens, now), requests: newPool(a.requests, now)}
		q.all[key] = d
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens.resize(a.tokens)
	d.requests.resize(a.requests)
	d.used = now
	return d
}

// forget drops the quotas that are full again.
func (q *quotas) forget(now time.Time) {
	for k, d := range q.all {
		d.mu.Lock()
		if now.Sub(d.used) > 2*heldFor {
			delete(q.all, k)
		}
		d.mu.Unlock()
	}
}

// ticket is what one request has taken.
type ticket struct {
	quotas *quotas
	quota  *quota
	who    string
	tokens float64 // taken by estimate

	leftTokens, leftRequests int // for the caller after it
}

// refused says which limit a request ran into.
type refused struct {
	requests bool // else tokens
	wait     time.Duration
	first    bool // the first refusal of this principal in a minute
}

// allows refuses who has no room for the smallest request. It takes nothing.
func (q *quotas) allows(key, who string, a allowance) *refused {
	d := q.get(key, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.check(q.now(), who, 1)
}

// check says which limit has no room for a request of so many tokens. mu is held.
func (d *quota) check(now time.Time, who string, tokens float64) *refused {
	d.tokens.advance(now)
	d.requests.advance(now)
	for _, p := range []*pool{d.requests, d.tokens} {
		need := tokens
		if p == d.requests {
			need = 1
		}
		if p.fits(who, need) {
			continue
		}
		first := p.shares[who] == nil
		p.hold(who)
		return &refused{requests: p == d.requests, wait: p.wait(who, need), first: first}
	}
	return nil
}

// admit takes one request of so many tokens, or refuses it.
func (q *quotas) admit(key, who string, a allowance, tokens int) (*ticket, *refused) {
	d := q.get(key, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	n := float64(tokens)
	if r := d.check(q.now(), who, n); r != nil {
		return nil, r
	}
	d.tokens.take(who, n)
	d.requests.take(who, 1)
	t := &ticket{quotas: q, quota: d, who: who, tokens: n}
	t.leftTokens, t.leftRequests = left(d.tokens, who), left(d.requests, who)
	return t, nil
}

func left(p *pool, who string) int {
	have, _ := p.has(who)
	return int(max(0, have))
}

// settle puts the true number of tokens in the place of the estimate.
func (t *ticket) settle(tokens int) {
	t.quota.mu.Lock()
	defer t.quota.mu.Unlock()
	t.quota.tokens.advance(t.quotas.now())
	t.quota.tokens.take(t.who, float64(tokens)-t.tokens)
	t.tokens = float64(tokens)
}
