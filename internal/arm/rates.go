package arm

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
)

// Rates are token buckets, for Azure's limits of requests. Each process counts
// by itself. The zero Rates is ready.
type Rates struct {
	mu      sync.Mutex // guards buckets
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

// maxBuckets bounds the memory; when it is reached all counts begin anew.
const maxBuckets = 10_000

// Take takes one token from the key's bucket, which holds at most burst and
// gains perSecond a second. left is how many remain; where there was none,
// wait says when there will be.
func (r *Rates) Take(key string, perSecond float64, burst int, now time.Time) (left int, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buckets == nil || len(r.buckets) > maxBuckets {
		r.buckets = map[string]*bucket{}
	}
	b := r.buckets[key]
	if b == nil {
		b = &bucket{tokens: float64(burst), last: now}
		r.buckets[key] = b
	}
	b.tokens = min(float64(burst), b.tokens+perSecond*now.Sub(b.last).Seconds())
	b.last = now
	if b.tokens < 1 {
		return 0, time.Duration((1 - b.tokens) / perSecond * float64(time.Second))
	}
	b.tokens--
	return int(b.tokens), 0
}

// subscriptionRate keeps Azure's limits for one caller in one subscription.
// Source: "Understand how Azure Resource Manager throttles requests".
func (h *Handler) subscriptionRate(c *call) error {
	if !h.cfg.AzureLike {
		return nil
	}
	what, perSecond, burst := "writes", 10.0, 200
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		what, perSecond, burst = "reads", 25, 250
	case http.MethodDelete:
		what = "deletes"
	}
	scope, id := "tenant", ""
	if s := subscriptionOf(c.r.URL.Path); s != "" {
		scope, id = "subscription", s
	}
	left, wait := h.rates.Take(what+"/"+id+"/"+c.caller.ObjectID, perSecond, burst, time.Now())
	c.w.Header().Set("x-ms-ratelimit-remaining-"+scope+"-"+what, fmt.Sprint(left))
	if wait == 0 {
		return nil
	}
	err := apierr.New(apierr.TooManyRequests, "SubscriptionRequestsThrottled",
		"Number of '%s' requests for %s '%s' and actor '%s' exceeded. Please try again after '%d' seconds.", what, scope, id, c.caller.ObjectID, int(wait.Seconds())+1)
	err.RetryAfter = wait
	return err
}
