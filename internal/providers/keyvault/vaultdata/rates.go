package vaultdata

import (
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

// Azure's limits of transactions in ten seconds: of one vault, and of it for
// making keys and certificates. Source: Key Vault service limits.
const (
	rateWindow   = 10 * time.Second
	rateVault    = 4000
	rateKeyMake  = 20
	rateCertMake = 10
)

// rates counts the transactions of each vault in the present window.
type rates struct {
	mu    sync.Mutex // guards the rest
	began time.Time
	count map[string]int
}

// take counts one transaction and gives how many there are, and how long the
// window still lasts.
func (r *rates) take(key string, now time.Time) (int, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil || now.Sub(r.began) >= rateWindow {
		r.began, r.count = now, map[string]int{}
	}
	r.count[key]++
	return r.count[key], rateWindow - now.Sub(r.began)
}

// limit refuses what is more than Azure would serve; only with AzureLike.
func (p *plane) limit(g *gate.Call, path string) error {
	if !p.AzureLike {
		return nil
	}
	uid := g.Target.Data.(*target).vault.UID
	n, left := p.rates.take(uid, p.Now())
	over := n > rateVault
	for prefix, most := range map[string]int{"/keys/": rateKeyMake, "/certificates/": rateCertMake} {
		if strings.HasPrefix(path, prefix) && strings.HasSuffix(path, "/create") {
			n, _ := p.rates.take(uid+path, p.Now())
			over = over || n > most
		}
	}
	if !over {
		return nil
	}
	e := apierr.New(apierr.TooManyRequests, "Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached")
	e.RetryAfter = left
	return e
}
