package server

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/providers/machinelearningservices/endpoints"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/providers/storage/blob"
	"lazurite.dev/internal/rid"
)

// onlineEndpoints adds endpoints, deployments and assets to Machine Learning.
func (s *system) onlineEndpoints(ctx context.Context) error {
	kept := assets.New(assets.Config{Store: s.Store, Storage: shelves{s.stores, s.Config}})
	files, ok := s.planes[Blob].(*blob.Plane)
	if !ok {
		return errors.New("there is no plane of blobs")
	}
	images := environment.New(s.Config.Environments, environment.Built{Folder: s.Home.Environments(), Used: s.compute.Images})
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, images.Collect)
		return nil
	})
	registries, err := s.registryImages()
	if err != nil {
		return err
	}
	cfg := endpoints.Config{
		Store: s.Store, Sealer: s.keyring, Assets: kept, Runner: s.runner, Images: images,
		Contexts: files, Grants: grants{s.policy}, Refused: s.Refused, Registries: registries,
		AzureLike:  s.Config.AzureLike,
		URL:        func(label string) string { return s.Config.URL(Scoring, label) },
		Management: s.Config.URL(ARM, ""),
		Label:      s.Config.scoringLabel,
	}
	if s.online, err = endpoints.Open(ctx, cfg); err != nil {
		return err
	}
	s.ends(s.online.Close)
	s.learning.Routes = append(append(s.learning.Routes, kept.Routes()...), s.online.Routes()...)
	s.learning.Endpoints = append(s.learning.Endpoints, s.online.Endpoints()...)
	return nil
}

// scoringLabel is what stands before the suffix of an endpoint's host name:
// "ENDPOINT.REGION".
func (c *Config) scoringLabel(host string) (string, bool) { return c.label(Scoring, host) }

// label is what the star of one of a surface's names stands for in a host name.
func (c *Config) label(surface, host string) (string, bool) {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	host = strings.ToLower(host)
	for _, f := range families() {
		if f.surface != surface {
			continue
		}
		for _, pattern := range append(f.azure, f.own+"."+c.Domain) {
			if label, ok := strings.CutSuffix(host, strings.ToLower(strings.TrimLeft(pattern, "*"))); ok && label != "" {
				return label, true
			}
		}
	}
	return "", false
}

// shelves are where the files of workspaces are.
type shelves struct {
	accounts *storage.Accounts
	cfg      *Config
}

// SignContainer implements assets.Storage.
func (s shelves) SignContainer(ctx context.Context, account rid.ID, container, permissions string, expires time.Time) (string, error) {
	u, err := s.accounts.SignContainer(ctx, account, container, permissions, expires)
	if e, ok := errors.AsType[*apierr.Error](err); ok && e.Code == storage.CodeSealed {
		err = assets.ErrSealed
	}
	return u, err
}

// SealContainer implements assets.Storage.
func (s shelves) SealContainer(ctx context.Context, account rid.ID, container string) error {
	return s.accounts.SealContainer(ctx, account, container)
}

// BlobURL implements assets.Storage.
func (s shelves) BlobURL(account, container, path string) string {
	u := url.URL{Path: "/" + container}
	if path != "" {
		u.Path += "/" + path
	}
	return s.cfg.blobURL(account) + u.EscapedPath()
}

// IsBlobHost implements assets.Storage.
func (s shelves) IsBlobHost(host string) (string, bool) { return s.cfg.label(Blob, host) }

// grants gives the identities of endpoints their roles.
type grants struct{ policy *authorization.Authorizer }

// Grant implements endpoints.Grants.
func (g grants) Grant(ctx context.Context, scope rid.ID, role, principal string) error {
	return g.policy.Assign(ctx, scope, role, principal)
}

// Revoke implements endpoints.Grants.
func (g grants) Revoke(ctx context.Context, scope rid.ID, role, principal string) error {
	return g.policy.Unassign(ctx, scope, role, principal)
}
