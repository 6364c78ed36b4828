// Package assets is what a workspace keeps in versions: code, models,
// environments and data.
//
// A version says where its files are in the workspace's storage; they are put
// there by clients, with the signature that startPendingUpload gives. The
// container of a version need not be made first: the version makes it.
//
// Source: Microsoft.MachineLearningServices, stable 2024-04-01.
package assets

import (
	"context"
	"errors"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.MachineLearningServices"

// WorkspaceType is the type of what assets belong to.
const WorkspaceType = Namespace + "/workspaces"

// Versions are the api-versions of what is in a workspace, newest first.
func Versions() []string {
	return []string{
		"2025-09-01", "2025-07-01-preview", "2025-06-01", "2025-04-01", "2025-04-01-preview", "2025-01-01-preview", "2024-10-01", "2024-10-01-preview", "2024-07-01-preview",
		"2024-04-01", "2024-04-01-preview", "2024-01-01-preview", "2023-10-01", "2023-08-01-preview", "2023-06-01-preview", "2023-04-01",
		"2023-04-01-preview", "2023-02-01-preview", "2022-12-01-preview", "2022-10-01", "2022-10-01-preview", "2022-06-01-preview", "2022-05-01",
		"2022-02-01-preview", "2021-10-01",
	}
}

// Storage is where a workspace's files are.
type Storage interface {
	// SignContainer makes the container, where it is not there, and gives its
	// URL with a signature. permissions are as in a SAS: "racwl".
	// The error is ErrSealed where the container was sealed.
	SignContainer(ctx context.Context, account rid.ID, container, permissions string, expires time.Time) (string, error)

	// SealContainer makes that nothing is written there any more, whatever was
	// signed. One that is not there is no error.
	SealContainer(ctx context.Context, account rid.ID, container string) error

	// BlobURL is the URL of a blob, or of a folder.
	BlobURL(account, container, path string) string

	// IsBlobHost reports whether a host name is a storage account's, and whose.
	IsBlobHost(host string) (account string, ok bool)
}

// ErrSealed is of a container in which nothing can be written any more.
var ErrSealed = errors.New("the container is sealed")

// Config is what New needs.
type Config struct {
	Store   store.Store
	Storage Storage          // nil: nothing can be uploaded
	Now     func() time.Time // nil means time.Now
}

// Service keeps the assets of workspaces.
type Service struct {
	Config
	res arm.Resources
}

// New makes a Service.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{Config: c, res: arm.Resources{Store: c.Store}}
}

// The types of assets, as they are in ids.
const (
	Codes        = "codes"
	Models       = "models"
	Environments = "environments"
	Data         = "data"
)

// Routes are the types of assets, for the namespace's provider.
func (s *Service) Routes() []arm.Route {
	var list []arm.Route
	for _, typ := range []string{Codes, Models, Environments, Data} {
		list = append(list, arm.Serve(Namespace, s.containers(typ)), arm.Serve(Namespace, s.versions(typ)))
	}
	return list
}

// Container are the properties of what has versions.
type Container struct {
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	Archived    bool              `json:"isArchived,omitempty"`
	DataType    string            `json:"dataType,omitempty"` // of data

	// Computed.
	Latest string `json:"latestVersion,omitempty"`
	Next   string `json:"nextVersion,omitempty"`
}

// Version are the properties of a version, of any type of asset.
type Version struct {
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	Anonymous   bool              `json:"isAnonymous,omitempty"`
	Archived    bool              `json:"isArchived,omitempty"`
	Stage       string            `json:"stage,omitempty"`

	CodeURI string `json:"codeUri,omitempty"`

	ModelURI  string         `json:"modelUri,omitempty"`
	ModelType string         `json:"modelType,omitempty"`
	Flavors   map[string]any `json:"flavors,omitzero"`
	JobName   string         `json:"jobName,omitempty"`

	Image       string           `json:"image,omitempty"`
	CondaFile   string           `json:"condaFile,omitempty"`
	Build       *Build           `json:"build,omitempty"`
	Inference   *InferenceConfig `json:"inferenceConfig,omitempty"`
	OSType      string           `json:"osType,omitempty"`
	AutoRebuild string           `json:"autoRebuild,omitempty"`
	Environment string           `json:"environmentType,omitempty"`

	DataURI  string `json:"dataUri,omitempty"`
	DataType string `json:"dataType,omitempty"`
}

// Build says how an environment's image is built.
type Build struct {
	ContextURI     string `json:"contextUri,omitempty"`
	DockerfilePath string `json:"dockerfilePath,omitempty"`
}

// InferenceConfig says where an environment's image answers.
type InferenceConfig struct {
	Liveness  *Route `json:"livenessRoute,omitempty"`
	Readiness *Route `json:"readinessRoute,omitempty"`
	Scoring   *Route `json:"scoringRoute,omitempty"`
}

// Route is a path and a port.
type Route struct {
	Path string `json:"path"`
	Port int    `json:"port"`
}
