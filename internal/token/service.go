package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/store"
)

// Sealer encrypts at rest; internal/seal implements it.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
}

// PublicAuthority is the login host of the public cloud. Under it v1 tokens are
// issued by sts.windows.net, as Azure does.
const PublicAuthority = "login.microsoftonline.com"

// Config says whose tokens the service issues and checks.
type Config struct {
	Store store.Store
	Seal  Sealer

	// TenantID is the tenant, a GUID in lower case.
	TenantID string

	// AuthorityHosts are the login hosts whose tokens are ours, host or
	// host:port; tokens are issued under the first unless a request names
	// another. Empty means PublicAuthority.
	AuthorityHosts []string

	// Resources are platform resources under names of our own, beside Azure's.
	Resources []Resource

	// RotateEvery is how long one key signs; 0 means 30 days.
	RotateEvery time.Duration

	// PublishAhead is how long a new key is published before it signs, so
	// that whoever caches key sets has it in time; 0 means 1 hour.
	PublishAhead time.Duration

	// Clock tells the time; nil means time.Now.
	Clock func() time.Time

	// Log takes what goes wrong in the background; nil drops it.
	Log *slog.Logger
}

// Service issues and checks the tokens of one tenant.
type Service struct {
	cfg       Config
	now       func() time.Time
	resources map[string]Resource
	issuers   map[string]string // iss -> version
	verified  *cache[*checked]
	reusable  *cache[issued]
	flights   flights

	creating sync.Mutex // held while this replica makes the first key

	mu     sync.RWMutex // guards the fields below
	keys   []*signingKey
	loaded time.Time
}

// Open reads the signing keys. It makes none: the first one is made when it is
// first needed, or by Run, so that opening stays fast.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Seal == nil || cfg.TenantID == "" {
		return nil, errors.New("opening the token service: store, seal and tenant are needed")
	}
	if len(cfg.AuthorityHosts) == 0 {
		cfg.AuthorityHosts = []string{PublicAuthority}
	}
	if cfg.RotateEvery == 0 {
		cfg.RotateEvery = 30 * 24 * time.Hour
	}
	if cfg.PublishAhead == 0 {
		cfg.PublishAhead = time.Hour
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		cfg: cfg, now: cfg.Clock, resources: indexResources(cfg.Resources), issuers: map[string]string{},
		verified: newCache[*checked](8192), reusable: newCache[issued](8192),
	}
	for _, h := range cfg.AuthorityHosts {
		if u, err := url.Parse("https://" + h + "/"); err != nil || u.Host != h {
			return nil, fmt.Errorf("opening the token service: %q is not a host", h)
		}
		s.issuers[s.Issuer(h, "1.0")], s.issuers[s.Issuer(h, "2.0")] = "1.0", "2.0"
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// TenantID is the tenant whose tokens s issues.
func (s *Service) TenantID() string { return s.cfg.TenantID }

// Issuer is the iss of tokens of a version ("1.0", "2.0") under a login host;
// "" is the first one. Source: "Access token claims reference".
func (s *Service) Issuer(host, version string) string {
	if host == "" {
		host = s.cfg.AuthorityHosts[0]
	}
	switch {
	case version == "2.0":
		return "https://" + host + "/" + s.cfg.TenantID + "/v2.0"
	case host == PublicAuthority:
		return "https://sts.windows.net/" + s.cfg.TenantID + "/"
	}
	return "https://" + host + "/" + s.cfg.TenantID + "/"
}

// Run keeps the keys: it makes the first one, takes in those that other
// replicas make, rotates when one has signed long enough, and forgets those
// whose last token is dead. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if _, err := s.signer(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	changed := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx, changed) })
	group.Go(func() error {
		tick := time.NewTicker(10 * time.Minute)
		defer tick.Stop()
		for {
			var err error
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				err = s.load(ctx)
			case <-tick.C:
				err = s.tend(ctx)
			}
			if err != nil && ctx.Err() == nil {
				// The keys at hand stay good; the next tick tries again.
				s.cfg.Log.ErrorContext(ctx, "tending the signing keys", "err", err)
			}
		}
	})
	return group.Wait()
}

// follow sends to changed, without waiting, when any replica writes a key.
func (s *Service) follow(ctx context.Context, changed chan<- struct{}) error {
	tell := func(store.Change) error {
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	}
	for {
		seq, err := s.cfg.Store.Now(ctx)
		if err == nil {
			_ = tell(store.Change{}) // what came before seq
			err = s.cfg.Store.Follow(ctx, keyPrefix, seq, tell, nil)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrBehind) {
			return fmt.Errorf("following the signing keys: %w", err)
		}
	}
}
