package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/entra"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/providers/resources"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace/refusals"
	"lazurite.dev/internal/web"
)

// credentialDelay is how long Azure may take to see a new federated credential.
// Source: Microsoft Entra documentation, "Important considerations and
// restrictions for federated identity credentials".
const credentialDelay = 2 * time.Minute

// system is what assemble puts together, step by step; each step uses what the
// ones before it made.
type system struct {
	*Base
	in       *installation
	keyring  *seal.Keyring
	refusals *refusals.Recorder
	dir      *directory.Directory
	policy   *authorization.Authorizer
	tokens   *token.Service
	login    *entra.Service
	ops      *ops.Manager
	out      *Assembly
}

// assemble builds the system on b.
func assemble(ctx context.Context, b *Base) (*Assembly, error) {
	s := &system{Base: b, out: &Assembly{Surfaces: map[string]web.Surface{}}}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"the keys that seal", s.seals},
		{"the directory", s.directory},
		{"policy", s.authorization},
		{"the token service", s.entra},
		{"management", s.management},
		{"the owner's sign-in", s.signIn},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("starting %s: %w", step.name, err), s.close())
		}
	}
	return s.out, nil
}

// close ends what an assembly that came to nothing has begun.
func (s *system) close() error {
	if s.policy != nil {
		s.policy.Close()
	}
	if s.dir != nil {
		s.dir.Close()
	}
	return nil
}

// worker runs until the server stops.
func (s *system) worker(run func(context.Context) error) { s.out.Workers = append(s.out.Workers, run) }

// ends runs a closing function when the server stops.
func (s *system) ends(closing func()) {
	s.worker(func(ctx context.Context) error {
		<-ctx.Done()
		closing()
		return nil
	})
}

func (s *system) seals(context.Context) error {
	root, err := seal.OpenFileRoot(s.Config.RootKeyFile)
	if err != nil {
		return err
	}
	s.keyring = seal.NewKeyring(s.Store, root)
	s.refusals = refusals.New(s.Store, nil)
	s.worker(s.refusals.Run)
	return nil
}

func (s *system) directory(ctx context.Context) error {
	var err error
	if s.in, err = install(ctx, s.Store); err != nil {
		return err
	}
	if s.dir, err = directory.Open(ctx, s.Store, s.in.Tenant); err != nil {
		return err
	}
	s.ends(s.dir.Close)
	return nil
}

func (s *system) authorization(ctx context.Context) error {
	var err error
	if s.policy, err = authorization.Open(ctx, s.Store, s.dir); err != nil {
		return err
	}
	s.ends(s.policy.Close)
	if err := resources.EnsureSubscription(ctx, s.Store, s.in.Tenant, s.in.Subscription, subscriptionName); err != nil {
		return err
	}
	s.out.Welcome, err = s.in.complete(ctx, s.Store, s.dir, s.policy)
	return err
}

func (s *system) entra(ctx context.Context) error {
	var err error
	hosts := []string{token.PublicAuthority, s.Config.ownHost(Login, "")}
	if s.Config.Names == NamesOwn {
		slices.Reverse(hosts)
	}
	s.tokens, err = token.Open(ctx, token.Config{
		Store: s.Store, Seal: s.keyring, TenantID: s.in.Tenant, AuthorityHosts: hosts, Resources: s.Config.resources(), Log: s.Config.Log,
	})
	if err != nil {
		return err
	}
	s.worker(s.tokens.Run)
	federation, err := token.NewFederation(token.FederationConfig{Own: s.tokens, AllowPrivateIssuers: s.Config.Issuers.AllowPrivate})
	if err != nil {
		return err
	}
	cfg := entra.Config{Tokens: s.tokens, Federation: federation, Directory: s.dir, Store: s.Store, Record: s.refusals.Record}
	if s.Config.AzureLike {
		cfg.CredentialDelay = credentialDelay
	}
	if s.login, err = entra.New(cfg); err != nil {
		return err
	}
	s.out.Surfaces[Login] = web.Surface{Handler: s.login, MaxBody: 128 << 10}
	return nil
}

func (s *system) management(context.Context) error {
	s.ops = ops.New(s.Store, s.Config.Log, s.Config.Store.PostgresDSNFile == "")
	activity := insights.New(s.Store, s.Config.Log)
	s.worker(activity.Run)
	providers := []arm.Provider{s.policy.Provider(), activity.Provider(), s.explain()}
	providers = append(providers, resources.New(resources.Config{
		Store: s.Store, TenantID: s.in.Tenant, TenantName: tenantName, Domain: ownerDomain, Providers: providers,
	}))
	h, err := arm.New(arm.Config{
		Store: s.Store, Ops: s.ops, Verifier: s.tokens, Authorizer: s.policy, Recorder: s.refusals, Log: s.Config.Log,
		Providers: providers, TenantID: s.in.Tenant, Activity: activity.Record,
		Registered: func(ctx context.Context, sub, ns string) (bool, error) {
			return resources.Registered(ctx, s.Store, sub, ns)
		},
		Extra: map[string]func(http.ResponseWriter, *http.Request){"/metadata/endpoints": resources.Metadata},
	})
	if err != nil {
		return err
	}
	s.worker(s.ops.Run)
	s.out.Surfaces[ARM] = web.Surface{Handler: h, Error: arm.WriteError}
	return nil
}

func (s *system) explain() arm.Provider {
	return explain.New(explain.Config{
		Resources: arm.Resources{Store: s.Store}, Refusals: s.refusals, NotFound: refusals.ErrNotFound, Policy: s.policy,
		Plane: func(string) explain.Plane { return nil },
	})
}

// signIn writes the files by which the local az is the owner.
func (s *system) signIn(ctx context.Context) error {
	return s.ownerFiles(ctx)
}
