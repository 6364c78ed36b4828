// Package environment finds the container image that an environment of machine
// learning is run as, without a registry and without the internet: images at
// hand stand for the images that environments name, and what the one lacks of
// the other is written down, package by package.
package environment

import (
	"context"
	"io"
	"os"
)

// Environment is what a deployment asks to run in, as an environment version
// of Microsoft.MachineLearningServices has it. One of Image, Build and Curated
// is given, or none of them where a conda file is all that there is.
type Environment struct {
	// Name is what the log calls it: "my-env:1".
	Name string

	// Image is a reference: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest.
	Image string

	// CondaFile is the content of a conda environment file; "" is none.
	CondaFile string

	// Build is a Dockerfile with what it copies; nil is none.
	Build *Build

	// Curated is an environment of a public registry:
	// azureml://registries/azureml/environments/sklearn-1.5/labels/latest.
	Curated string

	// Inference are the routes of a container that brings its own server; nil is
	// none, and the image must have the inference server.
	Inference *Routes

	// MLflow says that there is no script: the model is one of MLflow's, and the
	// image must be able to score it. Where nothing else is given, CondaFile is the
	// model's own.
	MLflow bool

	// Run runs a build in the computes of the workspace; nil: nothing is installed
	// for this environment.
	Run Run

	// Pull opens images of registries of this cloud, those too that Build and the
	// table name; nil: there are none.
	Pull Pull

	// Owner is whose computes those are. What came out of them is given to nobody
	// else: what runs there could have had a hand in it.
	Owner string
}

// Run runs a job, writes what it hands out to out, and takes the job away. Its
// error is a *JobError where the job itself came to nothing.
type Run func(ctx context.Context, j Job, out io.Writer) (Report, error)

// Job is a program that runs in an image: without an identity, without privileges.
type Job struct {
	Image, Archive string            // as Resolved has them
	Command        []string          // ends with an error, or answers GET / at JobPort with what it made
	Files          map[string][]byte // by name, in JobFolder; those that are large come in parts, NAME.000 and so on
	Most           int64             // bytes that it may hand out
}

// Where a Job finds its files, and is asked for what it made. JobFolder has also
// trust.pem, with what pods trust.
const (
	JobFolder = "/build/in"
	JobPort   = 5001
)

// Report is what is known of a job that ran.
type Report struct {
	Log     string   // its end
	Refused []string // what the network refused it, with what would allow that
}

// JobError is a job that failed.
type JobError struct {
	Message string
	Full    bool // there was no room for it
}

// Error implements error.
func (e *JobError) Error() string { return e.Message }

// Build is a build context.
type Build struct {
	// Fetch writes the files of the context into a folder that is made for it.
	Fetch      func(ctx context.Context, into *os.Root) error
	Dockerfile string // among the files; "" is Dockerfile
}

// Route is where a container answers.
type Route struct {
	Path string
	Port int
}

// Routes are those of a container's inferenceConfig.
type Routes struct{ Liveness, Readiness, Scoring Route }

// ServerPort is where the inference server of azureml listens.
const ServerPort = 5001

// ServerRoutes are the routes of the inference server.
func ServerRoutes() Routes {
	return Routes{
		Liveness: Route{"/", ServerPort}, Readiness: Route{"/", ServerPort}, Scoring: Route{"/score", ServerPort},
	}
}

// Resolved is an image at hand for an environment.
type Resolved struct {
	// Image is the name that pods give.
	Image string

	// Archive is a docker archive on this machine that holds Image, to be loaded
	// into a cluster that lacks it. Where it is "", nodes find Image themselves.
	Archive string

	// Digest is that of the config of Image in Archive, sha256:…: it changes when
	// the archive's image does.
	Digest string

	// Routes are those of the environment's inference configuration, or of the
	// inference server.
	Routes Routes

	// Differences are those between what is asked and what Image has.
	Differences []Difference

	// Log is the build log: what was asked, what was taken, what differs.
	Log string
}

// Difference is one package that is asked otherwise than the image has it.
type Difference struct {
	Package string // as it is asked: scikit-learn
	Asked   string // =1.7.0; "" is any version
	Has     string // 1.2.1; "" is none
}

// BuildError is an environment for which there is no image: what Azure
// reports as ImageBuildFailure.
type BuildError struct {
	Message string // for who asked, with what to do about it
	Log     string // the build log up to there
	Full    bool   // there is no room for another image: what Azure reports as OutOfQuota
	Bad     bool   // the image can't be pulled: what Azure reports as BadArgument
}

func (e *BuildError) Error() string { return e.Message }
