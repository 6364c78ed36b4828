package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/entra"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/graph"
	"lazurite.dev/internal/imds"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/containerservice"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/providers/insights/telemetry"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/machinelearningservices/endpoints"
	"lazurite.dev/internal/providers/managedidentity"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/providers/resources"
	"lazurite.dev/internal/providers/resources/deployments"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/trace/refusals"
	"lazurite.dev/internal/web"
)

// system is what assemble puts together, step by step; each step uses what the
// ones before it made.
type system struct {
	*Base
	in       *installation
	root     *seal.FileRoot
	keyring  *seal.Keyring
	refusals *refusals.Recorder
	dir      *directory.Directory
	policy   *authorization.Authorizer
	tokens   *token.Service
	login    *entra.Service
	issuers  *cluster.Issuers
	existing *cluster.Existing
	drivers  *cluster.Drivers
	metadata *imds.Service
	compute  *compute.Compute
	ops      *ops.Manager
	vaults   arm.Provider
	models   *inference.Catalog
	accounts *cognitiveservices.Accounts
	answers  *trace.Recent // requests to models

	links    *privatelink.Links
	networks *network.Networks

	workspaces *machinelearningservices.Workspaces

	cognitive arm.Provider
	learning  arm.Provider
	online    *endpoints.Service
	runner    runner
	registry  arm.Provider
	blobs     arm.Provider
	stores    *storage.Accounts // of blobs
	telemetry *telemetry.Service
	planes    map[string]http.Handler // data planes by surface
	out       *Assembly
}

// assemble builds the system on b.
func assemble(ctx context.Context, b *Base) (*Assembly, error) {
	s := &system{Base: b, planes: map[string]http.Handler{}, out: &Assembly{Surfaces: map[string]web.Surface{}}}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"the keys that seal", s.seals},
		{"the directory", s.directory},
		{"policy", s.authorization},
		{"the clusters' issuers", s.clusterIssuers},
		{"the clusters' drivers", s.clusterDrivers},
		{"the token service", s.entra},
		{"the directory's surface", s.graph},
		{"the metadata service", s.identities},
		{"the computes of workspaces", s.computes},
		{"private links", s.privateLinks},
		{"Key Vault", s.keyVault},
		{"the models", s.inference},
		{"Cognitive Services", s.cognitiveServices},
		{"Container Registry", s.containerRegistry},
		{"storage", s.storage},
		{"Machine Learning", s.machineLearning},
		{"Application Insights", s.observe},
		{"online endpoints", s.onlineEndpoints},
		{"scoring", s.scoring},
		{"management", s.management},
		{"the outbound rules", s.outboundRules},
		{"the owner's sign-in", s.signIn},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("starting %s: %w", step.name, err), s.close())
		}
	}
	s.out.OpenCluster = s.openCluster
	s.out.Clusters = func(ctx context.Context) ([]*arm.Envelope, error) { return s.list(ctx, clusterType) }
	s.out.Counts, s.out.ServiceAccountToken, s.out.RunSecret, s.out.EndRun = s.counts, s.serviceAccountToken, s.runSecret, s.endRun
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
	var err error
	if s.root, err = seal.OpenFileRoot(s.Config.RootKeyFile); err != nil {
		return err
	}
	s.keyring = seal.NewKeyring(s.Store, s.root)
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
	var limits authorization.Limits
	if s.Config.AzureLike {
		limits = authorization.Limits{Propagation: s.Config.Propagation, Assignments: authorization.AzureAssignments, CustomRoles: authorization.AzureCustomRoles}
	}
	if s.policy, err = authorization.OpenLimited(ctx, s.Store, s.dir, limits, time.Now); err != nil {
		return err
	}
	s.ends(s.policy.Close)
	if err := resources.EnsureSubscription(ctx, s.Store, s.in.Tenant, s.in.Subscription, subscriptionName); err != nil {
		return err
	}
	s.out.Owner = s.in.OwnerUPN
	s.out.Welcome, err = s.in.complete(ctx, s.Store, s.dir, s.policy)
	return err
}

func (s *system) clusterIssuers(context.Context) error {
	s.issuers = cluster.New(cluster.Config{
		Store: s.Store, Seal: s.keyring, Tenant: s.in.Tenant,
		URL: func(region string) string { return s.Config.URL(OIDC, region) },
	})
	s.out.Surfaces[OIDC] = web.Surface{Handler: s.issuers}
	return nil
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
	s.rotations()
	federation, err := token.NewFederation(token.FederationConfig{
		Own: s.tokens, Issuers: []token.IssuerKeys{s.issuers, s.existing}, AllowPrivateIssuers: s.Config.Issuers.AllowPrivate, Offline: s.Config.Offline,
	})
	if err != nil {
		return err
	}
	cfg := entra.Config{
		Tokens: s.tokens, Federation: federation, Directory: s.dir, Store: s.Store, Record: s.refusals.Record, CredentialDelay: s.Config.Propagation,
	}
	if s.Config.Local != "" {
		cfg.LocalPages = "http://" + s.Config.Local
	}
	if s.login, err = entra.New(cfg); err != nil {
		return err
	}
	s.out.Pages = s.login.Pages()
	s.out.Surfaces[Login] = web.Surface{Handler: s.login, IDs: web.TokenService, MaxBody: 128 << 10, Error: s.login.Error}
	s.worker(s.login.Run)
	return nil
}

func (s *system) graph(context.Context) error {
	h := graph.New(graph.Config{Directory: s.dir, Verifier: s.tokens, Recorder: s.recorder(), Leave: s.policy.LeavePrincipal})
	s.out.Surfaces[Graph] = web.Surface{Handler: h, Error: graph.WriteError, MaxBody: 1 << 20}
	return nil
}

func (s *system) management(context.Context) error {
	s.ops = ops.New(s.Store, s.Config.Log, s.Config.Store.PostgresDSNFile == "")
	activity := insights.New(s.Store, s.Config.Log, s.telemetry)
	s.worker(activity.Run)
	clusters := containerservice.Open(containerservice.Config{Store: s.Store, Directory: s.dir, Issuers: s.issuers, Drivers: s.drivers, Existing: s.existing, TenantID: s.in.Tenant})
	s.worker(func(ctx context.Context) error { return clusters.Resume(ctx, s.Config.Log) })
	providers := []arm.Provider{s.policy.Provider(), activity.Provider(), s.explain(), s.vaults, s.cognitive, s.registry, s.blobs, s.learning, s.logSinks(), s.network(), managedidentity.New(managedidentity.Config{
		Store: s.Store, Directory: s.dir, AzureLike: s.Config.AzureLike,
	}), clusters.Provider()}
	templates := deployments.New(deployments.Config{Store: s.Store, Seal: s.keyring, TenantID: s.in.Tenant, Versions: resources.Versions(), Cloud: resources.PublicCloud().Facts()})
	providers = append(providers, resources.New(resources.Config{
		Store: s.Store, TenantID: s.in.Tenant, TenantName: tenantName, Domain: ownerDomain, Providers: providers,
		Sees: s.policy.Sees, Routes: templates.Routes(), Endpoints: templates.Endpoints(),
	}))
	h, err := arm.New(arm.Config{
		Store: s.Store, Ops: s.ops, Verifier: s.tokens, Authorizer: s.policy, Recorder: s.recorder(), Log: s.Config.Log,
		Providers: providers, TenantID: s.in.Tenant, Activity: activity.Record,
		Principals: s.dir, AzureLike: s.Config.AzureLike, Attached: templates.Attach,
		Registered: func(ctx context.Context, sub, ns string) (bool, error) {
			return resources.Registered(ctx, s.Store, sub, ns)
		},
		Extra: map[string]func(http.ResponseWriter, *http.Request){"/metadata/endpoints": resources.Metadata},
	})
	if err != nil {
		return err
	}
	s.out.Providers = providers
	s.worker(s.ops.Run)
	s.out.Surfaces[ARM] = web.Surface{Handler: h, Error: arm.WriteError}
	return nil
}

func (s *system) explain() arm.Provider {
	return explain.New(explain.Config{
		Resources: arm.Resources{Store: s.Store}, Refusals: s.refusals, Answers: s.answers, NotFound: refusals.ErrNotFound, Policy: s.policy,
		Plane: s.plane, Open: s.openCluster, Apps: s.dir, Tenant: s.in.Tenant,
		Owns: func(host string) bool { return s.Config.surface(host) == Registry },
		Matches: func(expression string, claims map[string]any) (bool, error) {
			x, err := directory.ParseExpression(expression)
			return err == nil && x.Match(claims) == nil, err
		},
	})
}

// plane finds the data plane that has a host name.
func (s *system) plane(host string) explain.Plane {
	p, _ := s.planes[s.Config.surface(host)].(explain.Plane)
	return p
}

// principals is an account's own object id and its groups', as far as the
// directory is known to be up to date; none where the account is disabled.
func (s *system) principals(oid string) ([]string, error) {
	return s.dir.Acting(oid), s.policy.Fresh()
}

// gate is what every data plane shares.
func (s *system) gate() gate.Config {
	return gate.Config{Verifier: s.tokens, Authorizer: s.policy, Recorder: s.recorder()}
}

func (s *system) keyVault(ctx context.Context) error {
	objects := vaultdata.New(vaultdata.Config{Store: s.Store, Sealer: s.keyring})
	names, err := keyvault.OpenRegistry(ctx, s.Store)
	if err != nil {
		return err
	}
	s.ends(names.Close)
	vaults := keyvault.Config{
		Store: s.Store, Authorizer: s.policy, TenantID: s.in.Tenant, Links: s.links, URI: s.Config.vaultURL,
		Destroy: func(ctx context.Context, uid string) error {
			return errors.Join(objects.Destroy(ctx, uid), s.keyring.Destroy(ctx, vaultdata.SealScope(uid)))
		},
		Rewrap: unlessEmpty(func(ctx context.Context, uid string) error { return s.keyring.Rewrap(ctx, vaultdata.SealScope(uid)) }),
		Rotate: unlessEmpty(func(ctx context.Context, uid string) error { return s.keyring.Rotate(ctx, vaultdata.SealScope(uid)) }),
	}
	s.vaults = keyvault.New(vaults)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error { return errors.Join(keyvault.Sweep(ctx, vaults), objects.Sweep(ctx)) })
		return nil
	})
	azure, own := *s.Config, *s.Config
	azure.Names, own.Names = NamesAzure, NamesOwn
	var families []vaultdata.Family
	for _, c := range []Config{azure, own} {
		host := strings.TrimPrefix(c.Host(KeyVault, ""), ".")
		bare, _, err := net.SplitHostPort(host)
		if err != nil {
			bare = host
		}
		families = append(families, vaultdata.Family{Suffix: "." + bare, Authority: c.URL(Login, ""), Resource: "https://" + host})
	}
	plane := vaultdata.NewPlane(vaultdata.PlaneConfig{
		Gate: s.gate(), Names: names, Objects: objects, Groups: s.principals, Families: families, Links: s.links, AzureLike: s.Config.AzureLike,
	})
	s.planes[KeyVault], s.vaults.DataActions = plane, plane.Actions()
	s.out.Surfaces[KeyVault] = web.Surface{Handler: s.planes[KeyVault], IDs: web.KeyVault, MaxBody: vaultdata.MaxBody}
	return nil
}

// hourly erases, now and every hour, what was deleted and whose retention has
// ended.
func (s *system) hourly(ctx context.Context, sweep func(context.Context) error) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := sweep(ctx); err != nil && ctx.Err() == nil {
			s.Config.Log.Warn("erasing what was deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// counted are the kinds of documents that `laz status` counts.
func counted() map[string]string {
	return map[string]string{
		"resource groups":       strings.ToLower(rid.TypeResourceGroup),
		"key vaults":            "microsoft.keyvault/vaults",
		"AI accounts":           "microsoft.cognitiveservices/accounts",
		"ML workspaces":         "microsoft.machinelearningservices/workspaces",
		"container registries":  "microsoft.containerregistry/registries",
		"storage accounts":      "microsoft.storage/storageaccounts",
		"identities":            "microsoft.managedidentity/userassignedidentities",
		"federated credentials": "microsoft.managedidentity/userassignedidentities/federatedidentitycredentials",
		"clusters":              "microsoft.containerservice/managedclusters",
		"virtual networks":      "microsoft.network/virtualnetworks",
		"private endpoints":     "microsoft.network/privateendpoints",
		"role assignments":      "microsoft.authorization/roleassignments",
	}
}

// counts says how many resources there are of the kinds that people ask
// about; of each at most 1000 are looked at.
func (s *system) counts(ctx context.Context) (map[string]int, error) {
	m := map[string]int{}
	for name, kind := range counted() {
		docs, err := s.Store.List(ctx, store.Query{Prefix: arm.KeyPrefix + "/", Kind: kind, Limit: 1000})
		if err != nil {
			return nil, err
		}
		m[name] = len(docs)
	}
	return m, nil
}

// identities serves the endpoints where programs find the tokens of managed
// identities.
func (s *system) identities(context.Context) error {
	var err error
	s.metadata, err = imds.New(imds.Config{
		Tokens: s.tokens, Directory: s.dir, Store: s.Store, Location: "eastus", Subscription: s.in.Subscription, Record: s.refusals.Record,
	})
	if err != nil {
		return err
	}
	s.worker(s.metadata.Run)
	s.out.IMDS, s.out.MSI = s.metadata, s.metadata
	return nil
}

// signIn writes the files by which the local az is the owner.
func (s *system) signIn(ctx context.Context) error {
	return s.ownerFiles(ctx)
}
