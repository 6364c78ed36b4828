package compute

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/cluster"
)

const (
	maxLog    = 4 << 20 // bytes of a log
	maxTail   = 5000    // lines
	restEvent = "2006-01-02T15:04:05Z"
)

// Logs is the end of a container's log, tail lines at most, of the newest
// instance, after how that instance stands; of a server that crashed also what
// it said before. An instance that does not run yet has only the first part.
// Source: "Troubleshoot online endpoints", "Get container logs".
func (c *Compute) Logs(ctx context.Context, deploymentUID, container string, tail int) (string, error) {
	if container != InferenceServer && container != StorageInitializer {
		return "", apierr.New(apierr.BadRequest, "BadArgument", "There is no container '%s': %s and %s are those of a deployment.", shortened(container, 100), InferenceServer, StorageInitializer)
	}
	if tail < 1 || tail > maxTail {
		tail = maxTail
	}
	doc, ok, err := c.deployment(ctx, deploymentUID)
	if err != nil {
		return "", err
	}
	none := apierr.New(apierr.NotFound, "ResourceNotFound", "The deployment has no instance, and so no log.")
	if !ok {
		return "", none
	}
	d := doc.Deployment
	k, _, err := c.kube(ctx, d.WorkspaceUID)
	if err != nil {
		return "", err
	}
	pods, err := podsOf(ctx, k, d)
	if err != nil {
		return "", fmt.Errorf("reading the log of %s: %w", d.display(), err)
	}
	if len(pods) == 0 {
		return "", none
	}
	p := pods[0]
	if i := slices.IndexFunc(pods, func(p pod) bool { return !p.draining() }); i >= 0 {
		p = pods[i]
	}
	events, err := eventsOf(ctx, k, p)
	if err != nil {
		return "", fmt.Errorf("reading the log of %s: %w", d.display(), err)
	}
	return p.story(container, events) + "\nContainer logs:\n" + lastLog(ctx, k, d.namespace(), p.Metadata.Name, container, tail), nil
}

// lastLog is the end of a container's log, with that of the run before where it
// crashed; "" where there is none.
func lastLog(ctx context.Context, k *cluster.KubeAPI, namespace, pod, container string, tail int) string {
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/log?container=%s&tailLines=%d", namespace, pod, url.QueryEscape(container), tail)
	now, err := k.Text(ctx, path, maxLog)
	if e, ok := errors.AsType[*cluster.KubeError](err); ok && e.Code != http.StatusBadRequest {
		now = "(the log can't be read: " + e.Message + ")\n"
	}
	lines := strings.Count(now, "\n")
	if lines >= tail {
		return now
	}
	before, err := k.Text(ctx, path+"&previous=true", maxLog)
	if err != nil || before == "" {
		return now
	}
	kept := strings.SplitAfter(before, "\n")
	before = strings.Join(kept[max(len(kept)-1-(tail-lines), 0):], "")
	if now == "" || strings.HasSuffix(before, now) {
		return before
	}
	if !strings.HasSuffix(before, "\n") {
		before += "\n"
	}
	return before + now
}

// story says how an instance stands, as Azure's logs begin.
func (p pod) story(container string, events []event) string {
	word := func(done, failed bool) string {
		switch {
		case failed:
			return "Failed"
		case done:
			return "Succeeded"
		}
		return "InProgress"
	}
	server, _ := p.status(InferenceServer)
	init, hasInit := p.status(StorageInitializer)
	reason, _ := server.waiting()
	started := server.State.Running != nil || server.ended() != nil
	downloaded := !hasInit || init.State.Terminated != nil && init.State.Terminated.ExitCode == 0
	badImage := strings.Contains(reason, "Image")
	var b strings.Builder
	b.WriteString("Instance status:\n")
	fmt.Fprintf(&b, "SystemSetup: %s\n", word(p.condition("PodScheduled").Status == "True", p.condition("PodScheduled").Reason == "Unschedulable"))
	fmt.Fprintf(&b, "UserContainerImagePull: %s\n", word(started, badImage))
	fmt.Fprintf(&b, "ModelDownload: %s\n", word(downloaded, hasInit && !downloaded && init.ended() != nil))
	fmt.Fprintf(&b, "UserContainerStart: %s\n", word(p.condition("Ready").Status == "True", server.ended() != nil && !server.Ready))
	b.WriteString("\nContainer events:\n")
	for _, e := range events {
		if strings.Contains(e.InvolvedObject.FieldPath, "{") && !strings.Contains(e.InvolvedObject.FieldPath, "{"+container+"}") {
			continue // the other container's
		}
		fmt.Fprintf(&b, "Kind: Pod, Name: %s, Type: %s, Time: %s, Message: %s\n", e.Reason, e.Type, e.time().UTC().Format(restEvent), strings.ReplaceAll(e.Message, "\n", " "))
	}
	if p.draining() {
		fmt.Fprintf(&b, "The instance is going away since %s.\n", p.Metadata.DeletionTimestamp.UTC().Format(time.RFC3339))
	}
	return b.String()
}
