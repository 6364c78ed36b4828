// Package compute runs online deployments of machine learning: each workspace
// has a cluster of its own, each endpoint a namespace in it, and each
// deployment is a Deployment of Kubernetes whose pods first download code and
// model and then serve.
//
// A workspace's cluster is nobody's resource: no kubeconfig of it is handed
// out, and what its pods may reach is the outbound gate's business. Pods have
// no account at its API server.
package compute

import (
	"net/netip"
	"strings"
	"time"

	"lazurite.dev/internal/rid"
)

// The containers of a pod, as Logs names them.
// Source: Azure Machine Learning REST API, "Online Deployments - Get Logs".
const (
	InferenceServer    = "inference-server"
	StorageInitializer = "storage-initializer"
)

// The codes of failures.
// Source: "Troubleshoot online endpoints deployment and scoring".
const (
	CodeNotReady   = "ResourceNotReady"    // the container ended, or does not answer
	CodeImage      = "ImageBuildFailure"   // there is no image: it could not be built
	CodeQuota      = "OutOfQuota"          // no room for the instances
	CodeBad        = "BadArgument"         // what was asked for can't be: no such image, model or code
	CodeNoSupport  = "OperationNotAllowed" // this machine runs no clusters
	CodeInternal   = "InternalServerError" // ours
	CodeWasRemoved = "OperationCanceled"   // taken away while it was rolled out
)

// Deployment is an online deployment as it is to run.
type Deployment struct {
	UID  string // names it for good: ^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$
	Name string // "blue"
	ID   rid.ID

	Endpoint    string // name
	EndpointUID string // as UID; gives the namespace

	Workspace    rid.ID
	WorkspaceUID string // GUID in lower case; gives the cluster
	Location     string

	// Image is one that the cluster has or can pull. Archive, when it is not "",
	// is a file (docker archive, or a tar of an OCI layout) that has it.
	Image, Archive string
	Command        []string // instead of the image's; nil is the image's
	Env            map[string]string

	// Downloads are made before the server starts: into AppRoot, or into one of
	// Folders, which are the pod's own as well.
	Downloads []Download
	Folders   []string

	// Identities are whose tokens the pod gets: ARM ids of the resources or
	// user-assigned identities that have them, the default first. None: the pod
	// has no identity, and Downloads are refused.
	Identities []string

	Port      int // of scoring and probes; 0 is 5001
	Routes    Routes
	Liveness  Probe
	Readiness Probe
	CPUMillis int // of one instance, 1000 is a processor
	MemoryMiB int // of one instance
	DiskMiB   int // that one instance may write; 0 is what the machine gives each
	Instances int

	// Concurrent is how many requests one instance takes at a time; for the
	// server's number of workers. 0 is one.
	Concurrent int
	// Timeout is how long a request may take: so long an instance that goes away
	// is left to answer. 0 is 5 seconds.
	Timeout time.Duration
	// Deadline is how long the rollout may go on without progress; 0 is the
	// configuration's.
	Deadline time.Duration
}

// Download is what the pod finds in its file system: a folder of blobs
// becomes the folder Path, one blob the file Path.
type Download struct {
	URL  string // https://ACCOUNT.blob…/CONTAINER/PREFIX or …/BLOB
	Path string // in the container, absolute and clean
}

// Where containers find things.
// Source: "Deploy and score a machine learning model by using an online endpoint".
const (
	AppRoot   = "/var/azureml-app"          // code: AML_APP_ROOT is a folder in it
	ModelRoot = AppRoot + "/azureml-models" // models: AZUREML_MODEL_DIR is NAME/VERSION in it
)

// Routes are where the server answers probes; "" is the path "/" at
// Deployment.Port.
type Routes struct{ Liveness, Readiness Route }

// Route is a path and a port; a port of 0 is Deployment.Port.
type Route struct {
	Path string
	Port int
}

// Probe says how often a server is asked; zeros are Azure's defaults.
// Source: Azure Machine Learning REST API, ProbeSettings.
type Probe struct {
	InitialDelay, Period, Timeout time.Duration
	Success, Failure              int
}

// Failure says why a deployment does not run. It is an error.
type Failure struct {
	Code    string // one of the codes of this package
	Message string // a sentence or two, with the reason
	Log     string // the end of the container's log, when it has one
}

// Error implements error.
func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Instance is a pod of a deployment that has an address.
type Instance struct {
	ID      string // of the pod; another pod has another
	Cluster string // UID of the cluster
	Address netip.AddrPort
	// Ready: it takes requests. Draining: it goes away, answers what it has and
	// is to get nothing new.
	Ready, Draining bool
}

// ClusterUID names the cluster of a workspace, for the node agent and for what
// serves the cluster's network.
func ClusterUID(workspaceUID string) string { return clusterPrefix + strings.ToLower(workspaceUID) }

// WorkspaceOf is the workspace whose cluster has the UID; ok is false for
// clusters of others.
func WorkspaceOf(clusterUID string) (workspaceUID string, ok bool) {
	return strings.CutPrefix(clusterUID, clusterPrefix)
}

const clusterPrefix = "ml-"
