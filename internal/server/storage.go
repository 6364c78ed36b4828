package server

import (
	"context"
	"errors"
	"net"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/providers/storage/blob"
	"lazurite.dev/internal/web"
)

// storage is the management of storage accounts, and their blobs.
func (s *system) storage(ctx context.Context) error {
	var err error
	if s.stores, err = storage.Open(ctx, s.Store, s.keyring, s.Config.blobURL); err != nil {
		return err
	}
	s.ends(s.stores.Close)
	azure, own := *s.Config, *s.Config
	azure.Names, own.Names = NamesAzure, NamesOwn
	var families []blob.Family
	for _, c := range []Config{azure, own} {
		host := strings.TrimPrefix(c.Host(Blob, ""), ".")
		if bare, _, err := net.SplitHostPort(host); err == nil {
			host = bare
		}
		families = append(families, blob.Family{Suffix: "." + host, Authority: c.URL(Login, "")})
	}
	plane := blob.New(blob.Config{
		Gate: s.gate(), Accounts: s.stores, Store: s.Store, Dir: s.Config.Blobs, TenantID: s.in.Tenant, Families: families, Links: s.links,
	})
	cfg := storage.Config{
		Store: s.Store, Sealer: s.keyring, Accounts: s.stores, URL: s.Config.blobURL, Refuse: s.Config.noBlobs, Erase: plane.Erase, Links: s.links,
	}
	s.blobs = storage.New(cfg)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error { return errors.Join(storage.Sweep(ctx, cfg), plane.Collect(ctx)) })
		return nil
	})
	s.planes[Blob], s.blobs.DataActions = plane, plane.DataActions()
	s.out.Surfaces[Blob] = web.Surface{Handler: plane, IDs: web.KeyVault, MaxBody: blob.MaxBody, Timeout: -1, Error: blob.WriteError}
	return nil
}

// blobURL is where the blobs of a storage account answer.
func (c *Config) blobURL(name string) string { return c.URL(Blob, strings.ToLower(name)) }

// noBlobs says why no storage account can be made: replicas need a folder that
// they share.
func (c *Config) noBlobs() error {
	if c.Blobs != "" {
		return nil
	}
	return apierr.New(apierr.Conflict, "BlobsNotConfigured",
		"This server cannot keep blobs: it shares its database with replicas, and 'blobs' of the configuration does not name a folder that they share too.")
}
