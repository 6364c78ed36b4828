package server

import (
	"context"
	"errors"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/providers/containerregistry/distribution"
	"lazurite.dev/internal/web"
)

// containerRegistry is the management of registries, and what is in them.
func (s *system) containerRegistry(ctx context.Context) error {
	registries, err := containerregistry.Open(ctx, s.Store, s.keyring)
	if err != nil {
		return err
	}
	s.ends(registries.Close)
	var suffixes []string
	for _, f := range families() {
		if f.surface != Registry {
			continue
		}
		for _, name := range append(f.azure, f.own+"."+s.Config.Domain) {
			suffixes = append(suffixes, strings.TrimPrefix(name, "*"))
		}
	}
	plane := distribution.New(distribution.Config{Gate: s.gate(), Registries: registries, Store: s.Store, Links: s.links, Dir: s.Config.Registries, Suffixes: suffixes})
	cfg := containerregistry.Config{
		Store: s.Store, Sealer: s.keyring, Links: s.links, Server: s.Config.registryHost,
		Refuse: s.Config.noRegistries, Erase: plane.Erase, Used: plane.Used,
	}
	s.registry = containerregistry.New(cfg)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error {
			return errors.Join(containerregistry.Sweep(ctx, cfg), plane.Collect(ctx))
		})
		return nil
	})
	s.planes[Registry] = plane
	s.out.Surfaces[Registry] = web.Surface{Handler: plane, IDs: web.KeyVault, MaxBody: distribution.MaxBody, Timeout: -1, Error: distribution.WriteError}
	return nil
}

// registryHost is the login server of a registry.
func (c *Config) registryHost(name string) string { return c.Host(Registry, name) }

// noRegistries says why no registry can be made: replicas need a folder that
// they share.
func (c *Config) noRegistries() error {
	if c.Registries != "" {
		return nil
	}
	return apierr.New(apierr.Conflict, "RegistriesNotConfigured",
		"This server cannot keep container registries: it shares its database with replicas, and 'registries' of the configuration does not name a folder that they share too.")
}
