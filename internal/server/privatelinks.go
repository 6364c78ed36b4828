package server

import (
	"context"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/providers/storage"
)

// privateLinks opens what knows all private endpoints and networks. Each type
// that endpoints reach is a row.
func (s *system) privateLinks(ctx context.Context) error {
	var err error
	s.links, err = privatelink.Open(ctx, s.Store,
		keyvault.PrivateLink(s.Config.vaultURL),
		cognitiveservices.PrivateLink(s.Config.cognitiveURL),
		containerregistry.PrivateLink(s.Config.registryHost),
		machinelearningservices.PrivateLink(s.Config.scoringHost),
		storage.PrivateLink(s.Config.blobURL),
	)
	if err != nil {
		return err
	}
	s.ends(s.links.Close)
	if s.networks, err = network.Open(ctx, s.Store, s.links); err != nil {
		return err
	}
	s.ends(s.networks.Close)
	if s.Virtual != nil {
		s.Virtual(s.networks)
	}
	return nil
}

// network is the management of virtual networks.
func (s *system) network() arm.Provider {
	return network.New(network.Config{Networks: s.networks, Wire: s.Wire})
}

// vaultURL is where a vault answers.
func (c *Config) vaultURL(name string) string { return c.URL(KeyVault, strings.ToLower(name)) }
