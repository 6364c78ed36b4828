package endpoints

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
)

// Contexts copies the files of build contexts.
type Contexts interface {
	// Folder copies the blobs below a folder of a container, in the name of the
	// identity with the object id reader.
	Folder(ctx context.Context, reader string, account rid.ID, container, folder string, into *os.Root) error
}

// run has builds for the environment of a deployment run in the workspace's computes.
func (s *Service) run(w *assets.Workspace, parent *arm.Envelope, r *deployment) environment.Run {
	if s.Runner == nil {
		return nil
	}
	return func(ctx context.Context, j environment.Job, out io.Writer) (environment.Report, error) {
		b := compute.Build{
			Workspace: w.ID, WorkspaceUID: w.GUID, Location: r.Location, For: parent.Name + "/" + r.ID.Name(),
			Image: j.Image, Archive: j.Archive, Command: j.Command, Files: j.Files, Most: j.Most,
		}
		report, err := s.Runner.Build(ctx, b, out, nil)
		said := environment.Report{Log: report.Log}
		if err != nil && s.Refused != nil && report.Address.IsValid() {
			said.Refused = s.Refused(w.GUID, report.Address, report.Began)
		}
		if f, ok := errors.AsType[*compute.Failure](err); ok {
			return said, &environment.JobError{Message: f.Message, Full: f.Code == compute.CodeQuota}
		}
		return said, err
	}
}

// resolve finds the image, for a build context with its files at hand.
func (s *Service) resolve(ctx context.Context, w *assets.Workspace, parent *arm.Envelope, r *deployment, p *parts) (environment.Resolved, error) {
	b := p.environmentBuild
	e := p.environment
	e.Run, e.Pull, e.Owner = s.run(w, parent, r), s.pull(w, parent), w.GUID
	if b == nil {
		return s.Images.Resolve(ctx, e)
	}
	if s.Contexts == nil {
		return environment.Resolved{}, &environment.BuildError{Message: "there is nowhere to read build contexts from"}
	}
	container, folder, err := s.Assets.Context(ctx, w, b.ContextURI)
	if err != nil {
		return environment.Resolved{}, err
	}
	reader, err := reader(parent)
	if err != nil {
		return environment.Resolved{}, err
	}
	e.Build = &environment.Build{Dockerfile: b.DockerfilePath, Fetch: func(ctx context.Context, into *os.Root) error {
		return s.Contexts.Folder(ctx, reader, w.Storage, container, folder, into)
	}}
	return s.Images.Resolve(ctx, e)
}

// reader is the object id of the identity by which the pods of an endpoint
// download: what it may not read does not become a part of their image either.
func reader(endpoint *arm.Envelope) (string, error) {
	id, err := arm.IdentityOf(endpoint.Extra)
	if err != nil || id.PrincipalID != "" {
		return id.PrincipalID, err
	}
	for _, name := range slices.Sorted(maps.Keys(id.UserAssigned)) {
		return id.UserAssigned[name].PrincipalID, nil
	}
	return "", nil // who may read nothing
}
