package directory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The rules against guessing: after lockAfter failures in a row a name is
// locked for lockFor, as Entra's smart lockout does.
const (
	lockAfter  = 10
	lockFor    = time.Minute
	maxTracked = 10_000
	bcryptCost = 10
	// Nobody guesses a password of 125 bits of chance however fast it is
	// compared, so making one need not take long.
	generatedCost = bcrypt.MinCost
	atOnce        = 2 // hashes computed at the same time: they cost 50 ms of CPU each
)

// passwords hashes and compares passwords and counts failures.
type passwords struct {
	slots chan struct{}
	decoy []byte // compared for names that nobody has, so that they cost the same

	mu    sync.Mutex // guards tries
	tries map[[32]byte]*failures
}

type failures struct {
	count int
	last  time.Time
}

func newPasswords() *passwords {
	return &passwords{
		slots: make(chan struct{}, atOnce), tries: map[[32]byte]*failures{},
		// bcrypt of a password that was thrown away, of cost bcryptCost
		decoy: []byte("$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"),
	}
}

// digest lets bcrypt, which reads 72 bytes, see all of a longer password.
func digest(password string) []byte {
	sum := sha256.Sum256([]byte(password))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func (p *passwords) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *passwords) hash(ctx context.Context, password string, cost int) (string, error) {
	if err := p.acquire(ctx); err != nil {
		return "", err
	}
	defer func() { <-p.slots }()
	h, err := bcrypt.GenerateFromPassword(digest(password), cost)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return string(h), nil
}

// generatePassword makes 125 bits of chance readable.
func generatePassword() string {
	b := make([]byte, 17)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	s := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
	var parts []string
	for i := 0; i+5 <= len(s); i += 5 {
		parts = append(parts, s[i:i+5])
	}
	return strings.ToLower(strings.Join(parts, "-")) + "-Az1"
}

func (p *passwords) locked(name [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.tries[name]
	return f != nil && f.count >= lockAfter && time.Since(f.last) < lockFor
}

// failed counts a failure. When very many names are tracked, those whose time
// has passed are forgotten, and if none has, all: an attacker who invents names
// gains a second round and no memory.
func (p *passwords) failed(name [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tries) >= maxTracked {
		for k, f := range p.tries {
			if time.Since(f.last) >= lockFor {
				delete(p.tries, k)
			}
		}
		if len(p.tries) >= maxTracked {
			clear(p.tries)
		}
	}
	f := p.tries[name]
	if f == nil {
		f = &failures{}
		p.tries[name] = f
	}
	if f.count >= lockAfter && time.Since(f.last) >= lockFor {
		f.count = 0
	}
	f.count++
	f.last = time.Now()
}

func (p *passwords) succeeded(name [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tries, name)
}

// CheckPassword gives the user whose name and password these are. ErrPassword
// says that they are not; a name that nobody has takes as long. After ten
// failures in a row ErrLocked refuses everybody of that name for a minute, and
// ErrDisabled the right password of a disabled account.
func (d *Directory) CheckPassword(ctx context.Context, upn, password string) (User, error) {
	name := sha256.Sum256([]byte(strings.ToLower(upn)))
	if d.pws.locked(name) {
		return User{}, ErrLocked
	}
	d.ix.mu.RLock()
	u := d.ix.users[d.ix.upns[strings.ToLower(upn)]]
	d.ix.mu.RUnlock()
	hash, known := d.pws.decoy, u != nil && u.Hash != ""
	if known {
		hash = []byte(u.Hash)
	}
	if err := d.pws.acquire(ctx); err != nil {
		return User{}, err
	}
	err := bcrypt.CompareHashAndPassword(hash, digest(password))
	if cost, _ := bcrypt.Cost(hash); cost < bcryptCost { // a generated one, of which nobody is to see that it is
		_ = bcrypt.CompareHashAndPassword(d.pws.decoy, digest(password))
	}
	<-d.pws.slots
	if err != nil || !known {
		d.pws.failed(name)
		return User{}, ErrPassword
	}
	d.pws.succeeded(name)
	if u.Disabled {
		return User{}, ErrDisabled
	}
	return u.User, nil
}
