package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Assets: models, environments, data, code. Each has a name and versions.

// assetKind is a kind of asset.
type assetKind struct {
	word, plural string // "model", "models" on the wire
	uri          string // member of the wire that says where its files are; "" none
	fields       mlFields
}

// common are the members that all assets have.
func assetFields(name string, more ...mlField) mlFields {
	return mlFields{name: name, also: []string{"name", "version", "path", "id"}, fields: append(more,
		mlField{yaml: "description", wire: "description", conv: textConv()},
		mlField{yaml: "tags", wire: "tags", conv: textMap()},
		mlField{yaml: "properties", wire: "properties", conv: textMap()},
		mlField{yaml: "stage", wire: "stage", conv: textConv()},
		mlField{yaml: "creation_context", wire: "systemData", shown: true})}
}

func modelKind() assetKind {
	return assetKind{word: "model", plural: "models", uri: "modelUri", fields: assetFields("ModelSchema",
		mlField{yaml: "type", wire: "modelType", conv: enum("custom_model", "custom_model", "mlflow_model", "mlflow_model", "triton_model", "triton_model")},
		mlField{yaml: "flavors", wire: "flavors", conv: conv{to: flavorsToWire, from: flavorsFromWire}})}
}

func flavorsToWire(v any) (any, error) {
	out := object{}
	for name, data := range objectOr(v) {
		m, err := textMap().to(data)
		if err != nil {
			return nil, err
		}
		out[name] = object{"data": m}
	}
	return out, nil
}

func flavorsFromWire(v any) any {
	out := object{}
	for name, f := range objectOr(v) {
		out[name] = at(f, "data")
	}
	return out
}

func dataKind() assetKind {
	return assetKind{word: "data", plural: "data", uri: "dataUri", fields: assetFields("DataSchema",
		mlField{yaml: "type", wire: "dataType", conv: enum("uri_folder", "uri_folder", "uri_file", "uri_file", "mltable", "mltable")})}
}

func codeKind() assetKind {
	return assetKind{word: "code", plural: "codes", uri: "codeUri", fields: assetFields("CodeAssetSchema")}
}

func environmentKind() assetKind {
	route := conv{to: nested(mlFields{name: "RouteSchema", fields: []mlField{{yaml: "path", wire: "path", conv: textConv()}, {yaml: "port", wire: "port", conv: intConv()}}}).to}
	inference := mlFields{name: "InferenceConfigSchema", fields: []mlField{{yaml: "liveness_route", wire: "livenessRoute", conv: route},
		{yaml: "readiness_route", wire: "readinessRoute", conv: route}, {yaml: "scoring_route", wire: "scoringRoute", conv: route}}}
	build := mlFields{name: "BuildContextSchema", fields: []mlField{{yaml: "path", wire: "contextUri"}, {yaml: "dockerfile_path", wire: "dockerfilePath"}}}
	return assetKind{word: "environment", plural: "environments", fields: assetFields("EnvironmentSchema",
		mlField{yaml: "image", wire: "image", conv: textConv()},
		mlField{yaml: "conda_file", wire: "condaFile", conv: conv{from: condaFromWire}},
		mlField{yaml: "build", wire: "build", conv: nested(build)},
		mlField{yaml: "inference_config", wire: "inferenceConfig", conv: nested(inference)},
		mlField{yaml: "os_type", wire: "osType", conv: enum("linux", "Linux", "windows", "Windows")})}
}

func condaFromWire(v any) any {
	if o, err := parseSpec([]byte(scalarText(v))); err == nil {
		return o
	}
	return v
}

// show is a version of an asset as descriptions have it.
func (k assetKind) show(v any) any {
	if v == nil {
		return nil
	}
	out := k.fields.show(at(v, "properties"))
	out["id"] = at(v, "id")
	out["version"] = at(v, "name")
	if parts := strings.Split(textAt(v, "id"), "/"); len(parts) > 3 {
		out["name"] = parts[len(parts)-3]
	}
	if k.uri != "" {
		out["path"] = at(v, "properties", k.uri)
	}
	if sys := at(v, "systemData"); sys != nil {
		out["creation_context"] = creation().from(sys)
	}
	for _, m := range []string{"tags", "properties"} {
		if out[m] == nil {
			out[m] = object{}
		}
	}
	return out
}

// version is the path of a version of an asset.
func (w *workspace) version(k assetKind, name, version string) string {
	return w.under(k.plural, name, "versions", version)
}

// latest is the newest version of an asset and the one that comes after it.
func (w *workspace) latest(ctx context.Context, k assetKind, name string) (latest, next string, err error) {
	v, err := w.get(ctx, k.plural, name)
	if isStatus(err, http.StatusNotFound) {
		return "", "1", nil
	}
	if err != nil {
		return "", "", err
	}
	latest, next = textAt(v, "properties", "latestVersion"), textAt(v, "properties", "nextVersion")
	if n, err := strconv.Atoi(latest); err == nil && next == "" {
		next = strconv.Itoa(n + 1)
	}
	return latest, firstNonEmpty(next, "1"), nil
}

// reference is the id of an asset that a description names: azureml:NAME:VERSION,
// azureml:NAME@latest, or an id.
func (w *workspace) reference(ctx context.Context, k assetKind, ref string) (string, error) {
	s, ok := strings.CutPrefix(ref, "azureml:")
	if !ok && !strings.HasPrefix(ref, "/subscriptions/") {
		return "", failf("%q is no reference to a registered %s: use azureml:NAME:VERSION, azureml:NAME@latest or a resource id.", ref, k.word)
	}
	if strings.HasPrefix(s, "//") { // another registry's: the server says whether it knows it
		return ref, nil
	}
	if strings.HasPrefix(s, "/") {
		return s, nil
	}
	name, label, labelled := strings.Cut(s, "@")
	version := ""
	if labelled {
		if label != "latest" {
			return "", failf("%s: the only label is latest.", ref)
		}
		latest, _, err := w.latest(ctx, k, name)
		if err != nil {
			return "", err
		}
		if version = latest; version == "" {
			return "", notFoundf("No version of the %s %s exists in the workspace.", k.word, name)
		}
	} else if name, version, labelled = strings.Cut(s, ":"); !labelled {
		return "", failf("%q names no version: use azureml:%s:VERSION or azureml:%s@latest.", ref, s, s)
	}
	path := w.version(k, name, version)
	_, err := w.m.get(ctx, path, mlVersion)
	return path, err
}

// isLocal reports whether a path of a description is a file's or a folder's.
func isLocal(p string) bool {
	return !strings.Contains(p, "://") && !strings.HasPrefix(p, "azureml:") && !strings.HasPrefix(p, "runs:") || strings.HasPrefix(p, "file://")
}

// stored uploads a file or folder as the files of a version, and says where
// they are.
func (w *workspace) stored(ctx context.Context, k assetKind, name, version string, u *upload) (string, error) {
	v, err := w.m.post(ctx, w.version(k, name, version)+"/startPendingUpload", mlVersion, object{"pendingUploadType": "TemporaryBlobReference"})
	if err != nil {
		return "", err
	}
	ref := at(v, "blobReferenceForConsumption")
	return u.send(ctx, w.m.s, textAt(ref, "blobUri"), textAt(ref, "credential", "sasUri"))
}

// register puts a version of an asset whose files are local or named by an
// address; with no name it is anonymous and called by the hash of its files.
func (w *workspace) register(ctx context.Context, k assetKind, spec *mlSpec) (any, error) {
	props, err := k.fields.wire(spec.body)
	if err != nil {
		return nil, err
	}
	name, version := textAt(spec.body, "name"), scalar(firstNonNil(spec.body["version"], ""), "", "", "")
	p := textAt(spec.body, "path")
	if p == "" {
		return nil, k.fields.missing("path")
	}
	var u *upload
	if isLocal(p) {
		if u, err = collect(ctx, spec.path(p)); err != nil {
			return nil, err
		}
	} else if strings.HasPrefix(p, "runs:") {
		return nil, failf("path: %q is of a run, and there are no runs here. Use a file, a folder, or an address of the workspace's storage.", p)
	}
	if name == "" {
		if u == nil {
			return nil, k.fields.missing("name")
		}
		name, version = u.hash, "1"
		props["isAnonymous"] = true
		if v, err := w.m.get(ctx, w.version(k, name, version), mlVersion); err == nil {
			return v, nil // the same files are there already
		}
	}
	if version == "" {
		if _, version, err = w.latest(ctx, k, name); err != nil {
			return nil, err
		}
	}
	if u != nil {
		if p, err = w.stored(ctx, k, name, version, u); err != nil {
			return nil, err
		}
	}
	props[k.uri] = p
	k.defaults(props, u)
	return w.m.put(ctx, w.version(k, name, version), mlVersion, object{"properties": props}, false)
}

// defaults are what the SDK sends where nothing was said.
func (k assetKind) defaults(props object, u *upload) {
	switch k.word {
	case "model":
		if props["modelType"] == nil {
			props["modelType"] = "custom_model"
		}
	case "data":
		if props["dataType"] == nil {
			props["dataType"] = "uri_folder"
			if u != nil && len(u.files) == 1 && u.files[0].rel == "" {
				props["dataType"] = "uri_file"
			}
		}
	}
}

// registerEnvironment puts a version of an environment; with no name it is
// anonymous and its version is the hash of what it says.
func (w *workspace) registerEnvironment(ctx context.Context, spec *mlSpec) (any, error) {
	k := environmentKind()
	body := spec.body
	if err := spec.inlineConda(); err != nil {
		return nil, err
	}
	if err := w.uploadContext(ctx, spec); err != nil {
		return nil, err
	}
	props, err := k.fields.wire(body)
	if err != nil {
		return nil, err
	}
	if props["image"] == nil && props["build"] == nil {
		return nil, failf("Docker image or Dockerfile should be provided as part of environment definition")
	}
	if props["image"] != nil && props["build"] != nil {
		return nil, failf("Please provide image or build, not both")
	}
	if props["osType"] == nil {
		props["osType"] = "Linux"
	}
	name, version := textAt(body, "name"), scalar(firstNonNil(body["version"], ""), "", "", "")
	if name == "" {
		b, err := json.Marshal(props)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		name, version = "CliV2AnonymousEnvironment", asGUID(sum[:])
		props["isAnonymous"] = true
		if v, err := w.m.get(ctx, w.version(k, name, version), mlVersion); err == nil {
			return v, nil
		}
	} else if version == "" {
		if _, version, err = w.latest(ctx, k, name); err != nil {
			return nil, err
		}
	}
	return w.m.put(ctx, w.version(k, name, version), mlVersion, object{"properties": props}, false)
}

// inlineConda puts the text of the conda file in the description.
func (s *mlSpec) inlineConda() error {
	switch v := s.body["conda_file"].(type) {
	case nil:
		return nil
	case string:
		b, err := readLimited(s.path(v), maxSpec)
		if err != nil {
			return failf("conda_file: no such file: %s", v)
		}
		if _, err := parseSpec(b); err != nil {
			return failf("conda_file: %s: %s", v, err)
		}
		s.body["conda_file"] = string(b)
	case object:
		b, err := yaml.Marshal(yamlNode(v))
		if err != nil {
			return failf("conda_file: %s", err)
		}
		s.body["conda_file"] = string(b)
	default:
		return failf("conda_file: neither a path nor a mapping")
	}
	if s.body["image"] == nil {
		return failf("conda_file: the image that it adds to is missing")
	}
	return nil
}

// uploadContext uploads the folder that an image is built from.
func (w *workspace) uploadContext(ctx context.Context, spec *mlSpec) error {
	build, ok := spec.body["build"].(object)
	if !ok {
		return nil
	}
	p := textAt(build, "path")
	if p == "" {
		return environmentKind().fields.missing("build.path")
	}
	if build["dockerfile_path"] == nil {
		build["dockerfile_path"] = "Dockerfile"
	}
	if !isLocal(p) {
		return nil
	}
	// As code, so that the same files have one address and go up once.
	v, err := w.register(ctx, codeKind(), &mlSpec{dir: spec.dir, body: object{"path": p}})
	build["path"] = textAt(v, "properties", "codeUri")
	return err
}
