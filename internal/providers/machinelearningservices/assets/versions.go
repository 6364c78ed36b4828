package assets

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

func (s *Service) versions(typ string) arm.Kind[Version] {
	check := map[string]func(n *Version) error{Codes: s.checkCode, Models: s.checkModel, Environments: s.checkEnvironment, Data: s.checkData}[typ]
	k := arm.Kind[Version]{
		Type: "workspaces/" + typ + "/versions", APIVersions: Versions(), Name: checkName, NoPatch: true, Implied: true,
		ReadOnly: []string{"environmentType"},
		Default: func(_ context.Context, _, next *arm.Resource[Version]) error {
			if typ == Models && next.Properties.Flavors == nil {
				next.Properties.Flavors = map[string]any{} // azure-ai-ml reads it of every model
			}
			return nil
		},
		Validate: func(_ context.Context, old, next *arm.Resource[Version]) error {
			if err := checkName(next.ID.Parent().Name()); err != nil {
				return err
			}
			if err := check(&next.Properties); err != nil {
				return err
			}
			return unchanged(typ, old, next)
		},
		Put: func(ctx context.Context, _, next *arm.Resource[Version]) error {
			if err := s.seal(ctx, next); err != nil {
				return err
			}
			return s.contain(ctx, next)
		},
		ListAt: func(ctx context.Context, scope rid.ID, filter string) ([]*arm.Resource[Version], error) {
			if err := unfiltered(filter); err != nil {
				return nil, err
			}
			return s.list(ctx, scope, typ)
		},
	}
	upload := map[string]arm.Action[Version]{"startPendingUpload": s.startUpload}
	if typ != Environments {
		k.Actions, k.Unmade = upload, upload
	}
	return k
}

// list are the versions of a container as the request wants them.
func (s *Service) list(ctx context.Context, scope rid.ID, typ string) ([]*arm.Resource[Version], error) {
	all, err := list[Version](ctx, s.res, scope, WorkspaceType+"/"+typ+"/versions")
	if err != nil {
		return nil, err
	}
	keep, err := viewed(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r *arm.Resource[Version]) bool { return !keep(r.Properties.Archived) })
	q := arm.Query(ctx)
	if v := q.Get("version"); v != "" {
		all = slices.DeleteFunc(all, func(r *arm.Resource[Version]) bool { return !strings.EqualFold(r.ID.Name(), v) })
	}
	return all, order(all, q.Get("$orderBy"))
}

// order sorts by createdtime or modifiedtime, as clients ask for the latest.
func order(all []*arm.Resource[Version], by string) error {
	if by == "" {
		return nil
	}
	field, dir, _ := strings.Cut(strings.ToLower(strings.TrimSpace(by)), " ")
	at := func(r *arm.Resource[Version]) time.Time { return r.System.CreatedAt }
	switch field {
	case "createdtime", "createdat":
	case "modifiedtime", "updatedat", "lastmodifiedat":
		at = func(r *arm.Resource[Version]) time.Time { return r.System.LastModifiedAt }
	default:
		return bad("$orderBy", "The field '%s' of $orderBy is neither createdtime nor modifiedtime.", field)
	}
	sign := 1
	switch strings.TrimSpace(dir) {
	case "", "asc":
	case "desc":
		sign = -1
	default:
		return bad("$orderBy", "The direction '%s' of $orderBy is neither asc nor desc.", dir)
	}
	slices.SortStableFunc(all, func(a, b *arm.Resource[Version]) int {
		return sign * cmp.Or(at(a).Compare(at(b)), byNumber(a.ID.Name(), b.ID.Name()))
	})
	return nil
}

// unchanged refuses to give a version another content.
func unchanged(typ string, old, next *arm.Resource[Version]) error {
	if old == nil {
		return nil
	}
	o, n := old.Properties, next.Properties
	was := []any{o.CodeURI, o.ModelURI, o.ModelType, o.Image, o.CondaFile, o.Build, o.Inference, o.DataURI, o.DataType, o.OSType}
	is := []any{n.CodeURI, n.ModelURI, n.ModelType, n.Image, n.CondaFile, n.Build, n.Inference, n.DataURI, n.DataType, n.OSType}
	a, err := json.Marshal(was)
	if err != nil {
		return fmt.Errorf("encode version: %w", err)
	}
	b, err := json.Marshal(is)
	if err != nil {
		return fmt.Errorf("encode version: %w", err)
	}
	if string(a) == string(b) {
		return nil
	}
	return apierr.New(apierr.Conflict, "UserError",
		"The version '%s' of '%s' in '%s' exists already with another content. What a version holds cannot be changed: register it as another version.",
		next.ID.Name(), next.ID.Parent().Name(), typ)
}

func (s *Service) checkCode(n *Version) error { return s.checkURI("codeUri", n.CodeURI) }

func (s *Service) checkModel(n *Version) error {
	if n.ModelType == "" {
		n.ModelType = "custom_model"
	}
	switch strings.ToLower(strings.ReplaceAll(n.ModelType, "_", "")) { // older clients write CustomModel
	case "custommodel":
		n.ModelType = "custom_model"
	case "mlflowmodel":
		n.ModelType = "mlflow_model"
	case "tritonmodel":
		n.ModelType = "triton_model"
	default:
		return bad("properties.modelType", "The modelType '%s' is none of custom_model, mlflow_model and triton_model.", n.ModelType)
	}
	return s.checkURI("modelUri", n.ModelURI)
}

func (s *Service) checkData(n *Version) error {
	if err := checkDataType(&n.DataType); err != nil {
		return err
	}
	return s.checkURI("dataUri", n.DataURI)
}

func checkDataType(t *string) error {
	if *t == "" {
		*t = "uri_file"
	}
	if !slices.Contains([]string{"uri_file", "uri_folder", "mltable"}, strings.ToLower(*t)) {
		return bad("properties.dataType", "The dataType '%s' is none of uri_file, uri_folder and mltable.", *t)
	}
	*t = strings.ToLower(*t)
	return nil
}

// checkURI refuses what is no place of files.
func (s *Service) checkURI(name, uri string) error {
	if uri == "" {
		return bad("properties."+name, "The property '%s' is missing.", name)
	}
	if _, err := s.place(uri); err != nil {
		return bad("properties."+name, "The %s is invalid: %v.", name, err)
	}
	return nil
}

func (s *Service) checkEnvironment(n *Version) error {
	switch {
	case n.Image == "" && n.Build == nil:
		return bad("properties.image", "An environment has an 'image', with a 'condaFile' or without, or a 'build' context.")
	case n.Image != "" && n.Build != nil:
		return bad("properties.build", "An environment has an 'image' or a 'build' context, not both.")
	case n.CondaFile != "" && n.Build != nil:
		return bad("properties.condaFile", "An environment with a 'build' context has no 'condaFile': its Dockerfile says what is installed.")
	}
	if n.Environment = "UserCreated"; n.OSType == "" {
		n.OSType = "Linux"
	}
	if !strings.EqualFold(n.OSType, "Linux") {
		return bad("properties.osType", "The osType '%s' is not supported: images are Linux's.", n.OSType)
	}
	if n.CondaFile != "" {
		var file map[string]any
		if err := yaml.Unmarshal([]byte(n.CondaFile), &file); err != nil {
			return bad("properties.condaFile", "The condaFile is no YAML: %v.", err)
		}
	}
	if b := n.Build; b != nil {
		if b.DockerfilePath == "" {
			b.DockerfilePath = "Dockerfile"
		}
		if err := s.checkURI("build.contextUri", b.ContextURI); err != nil {
			return err
		}
	}
	return n.Inference.check()
}

func (c *InferenceConfig) check() error {
	if c == nil {
		return nil
	}
	for _, r := range []struct {
		name string
		*Route
	}{{"livenessRoute", c.Liveness}, {"readinessRoute", c.Readiness}, {"scoringRoute", c.Scoring}} {
		at := "properties.inferenceConfig." + r.name
		switch {
		case r.Route == nil && r.name != "scoringRoute":
		case r.Route == nil:
			return bad(at, "An inferenceConfig has a scoringRoute.")
		case !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, " \t\r\n?#"):
			return bad(at, "The path '%s' of the %s is not the path of a URL.", r.Path, r.name)
		case r.Port < 1 || r.Port > 65535:
			return bad(at, "The port %d of the %s is not from 1 to 65535.", r.Port, r.name)
		}
	}
	return nil
}

// startUpload is POST …/versions/{v}/startPendingUpload: it signs a container
// for the files of a version that is to be made.
func (s *Service) startUpload(ctx context.Context, r *arm.Resource[Version], body json.RawMessage) (any, error) {
	var in struct {
		ID   string `json:"pendingUploadId"`
		Type string `json:"pendingUploadType"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("", "The body must be an object such as {\"pendingUploadType\":\"TemporaryBlobReference\"}: %v", err)
	}
	if in.Type != "" && !strings.EqualFold(in.Type, "TemporaryBlobReference") && !strings.EqualFold(in.Type, "None") {
		return nil, bad("pendingUploadType", "The pendingUploadType '%s' is not TemporaryBlobReference.", in.Type)
	}
	for _, name := range []string{r.ID.Name(), r.ID.Parent().Name()} {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	if !r.System.CreatedAt.IsZero() {
		return nil, apierr.New(apierr.Conflict, "UserError", "The version '%s' of '%s' exists already: its files cannot be replaced.", r.ID.Name(), r.ID.Parent().Name())
	}
	ws, account, err := s.storage(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	container, signed, err := s.upload(ctx, ws, account, r.ID)
	if err != nil {
		return nil, err
	}
	bare, _, _ := strings.Cut(signed, "?")
	return map[string]any{
		"pendingUploadId": container, "pendingUploadType": "TemporaryBlobReference",
		"blobReferenceForConsumption": map[string]any{
			"blobUri": bare, "storageAccountArmId": account.String(), "credential": map[string]any{"credentialType": "SAS", "sasUri": signed},
		},
	}, nil
}
