package compute

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
)

// InsightsVariable says to a server, by the value "true", that what it prints
// is collected.
// Source: azureml-inference-server-http, AML_APP_INSIGHTS_ENABLED.
const InsightsVariable = "AML_APP_INSIGHTS_ENABLED"

// maxLine is how much of a line is read, in bytes.
const maxLine = 64 << 10

// ErrNotInsights is of a pod that was not made with InsightsVariable.
var ErrNotInsights = errors.New("the pod was made for a deployment that is not collected of")

// Follow calls line with each line that the inference server of a deployment's
// pod prints, those of before included as far as they came after since, until
// the server ends, which is no error, or ctx does. It is ErrNotInsights for a pod
// that was made without InsightsVariable.
func (c *Compute) Follow(ctx context.Context, deploymentUID, podName string, since time.Time, line func(at time.Time, text string)) error {
	doc, ok, err := c.deployment(ctx, deploymentUID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the deployment %s: %w", deploymentUID, cluster.ErrNotFound)
	}
	k, _, err := c.kube(ctx, doc.Deployment.WorkspaceUID)
	if err != nil {
		return err
	}
	path := "/api/v1/namespaces/" + doc.Deployment.namespace() + "/pods/" + podName
	var p pod
	if err := k.Get(ctx, path, &p); err != nil {
		return err
	}
	if p.Metadata.Labels[labelDeployment] != deploymentUID || !p.insights() {
		return ErrNotInsights
	}
	q := url.Values{"container": {InferenceServer}, "follow": {"true"}, "timestamps": {"true"}}
	if !since.IsZero() {
		q.Set("sinceTime", since.UTC().Format(time.RFC3339))
	}
	err = k.Lines(ctx, path+"/log?"+q.Encode(), maxLine, func(s string) {
		if at, text, ok := stamped(s); ok && at.After(since) {
			line(at, text)
		}
	})
	if e, ok := errors.AsType[*cluster.KubeError](err); ok && e.Code == http.StatusBadRequest {
		return nil // its container waits to be started
	}
	return err
}

// stamped splits a line from the time that the runtime read it at.
func stamped(s string) (at time.Time, text string, ok bool) {
	stamp, text, _ := strings.Cut(s, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	return at, strings.TrimRight(text, "\r"), err == nil
}

// insights says whether the server was told that its lines are collected.
func (p pod) insights() bool {
	for _, c := range p.Spec.Containers {
		for _, v := range c.Env {
			if c.Name == InferenceServer && v.Name == InsightsVariable {
				return v.Value == "true"
			}
		}
	}
	return false
}
