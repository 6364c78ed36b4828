package server

import (
	"context"
	"fmt"
	"strings"

	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/inference/tinywriter"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// inference opens the catalogue of the models that can be deployed.
func (s *system) inference(context.Context) error {
	cfg := s.Config.inference()
	cfg.Builtin = tinywriter.Handler()
	var err error
	if s.models, err = inference.New(cfg); err != nil {
		return err
	}
	s.worker(s.models.Run)
	s.out.Models = s.models
	if err := s.Metrics.Register(s.models.Metrics()); err != nil {
		return fmt.Errorf("counting the models' backends: %w", err)
	}
	return nil
}

// cognitiveServices is the management of accounts and deployments, and the
// registry of both for the data plane.
func (s *system) cognitiveServices(ctx context.Context) error {
	var err error
	if s.accounts, err = cognitiveservices.Open(ctx, s.Store, s.keyring); err != nil {
		return err
	}
	s.accounts.Links = s.links
	s.ends(s.accounts.Close)
	cfg := cognitiveservices.Config{Links: s.links, Store: s.Store, Sealer: s.keyring, Catalog: s.models, URL: s.Config.cognitiveURL, AzureLike: s.Config.AzureLike}
	s.cognitive = cognitiveservices.New(cfg)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error { return cognitiveservices.Sweep(ctx, cfg) })
		return nil
	})
	return s.openAI()
}

// openAI is the data plane of accounts.
func (s *system) openAI() error {
	var suffixes, regional []string
	for _, f := range families() {
		for _, name := range append(f.azure, f.own+"."+s.Config.Domain) {
			switch suffix := strings.TrimPrefix(name, "*"); f.surface {
			case OpenAI:
				suffixes = append(suffixes, suffix)
			case Cognitive:
				regional = append(regional, suffix)
			}
		}
	}
	filter, err := s.Config.ContentFilter.open()
	if err != nil {
		return err
	}
	s.answers = trace.NewRecent(1000)
	plane, err := openai.New(openai.Config{
		Answers: s.answers, Filter: filter, Log: s.Config.Log,
		Gate: s.gate(), Accounts: s.accounts, Models: s.models, Suffixes: suffixes, Regional: regional,
		Audiences: []string{token.CognitiveServices, token.AI}, Replicas: s.Config.Replicas, Metrics: s.Metrics,
	})
	if err != nil {
		return err
	}
	s.cognitive.DataActions = plane.Actions()
	for _, name := range []string{OpenAI, Cognitive} {
		s.planes[name] = plane
		s.out.Surfaces[name] = web.Surface{Handler: plane, IDs: web.KeyVault, MaxBody: openai.MaxBody, Timeout: -1, Error: openai.WriteError}
	}
	return nil
}

// cognitiveURL is where an account answers. Under own names there is one name
// for a subdomain.
func (c *Config) cognitiveURL(e cognitiveservices.Endpoint, label string) string {
	switch {
	case e == cognitiveservices.Regional:
		return c.URL(Cognitive, label)
	case e == cognitiveservices.Services && c.Names == NamesAzure:
		return "https://" + strings.ToLower(label) + ".cognitiveservices.azure.com"
	default:
		return c.URL(OpenAI, strings.ToLower(label))
	}
}
