package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/compute"
)

const (
	defaultTail = 5000
	maxTail     = 100_000
)

// atZero is what the log of a deployment without instances begins with.
const atZero = "The deployment is scaled to zero, since nobody asked (min_instances is 0): the next request starts it."

// getLogs is POST …/getLogs {"containerType":"InferenceServer","tail":100}.
func (s *Service) getLogs(ctx context.Context, r *deployment, body json.RawMessage) (any, error) {
	var in struct {
		Container string `json:"containerType"`
		Tail      *int   `json:"tail"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("containerType", "The body must be an object such as {\"containerType\":\"InferenceServer\",\"tail\":100}: %v", err)
	}
	tail := defaultTail
	if in.Tail != nil {
		tail = *in.Tail
	}
	if tail < 1 || tail > maxTail {
		return nil, bad("tail", "The number of lines %d is not from 1 to %d.", tail, maxTail)
	}
	container := compute.InferenceServer
	switch {
	case in.Container == "" || strings.EqualFold(in.Container, "InferenceServer"):
	case strings.EqualFold(in.Container, "StorageInitializer"):
		container = compute.StorageInitializer
	default:
		return nil, bad("containerType", "The containerType '%s' is neither StorageInitializer nor InferenceServer.", in.Container)
	}
	if err := s.available(ctx); err != nil {
		return nil, err
	}
	text, err := s.Runner.Logs(ctx, endpointUID(r.Private[uidKey]), container, tail)
	if f, ok := errors.AsType[*compute.Failure](err); ok {
		text, err = f.Message+"\n", nil
	}
	if apierr.Is(err, apierr.NotFound) { // nothing of it runs, yet
		err = nil
	}
	if err != nil {
		return nil, apierr.New(apierr.Conflict, "ResourceNotReady", "The log of the deployment '%s' can't be read now: what it runs on does not answer. Try again in a moment.", r.ID.Name()).WithCause(err)
	}
	line, err := s.stands(ctx, r, text == "")
	if err != nil {
		return nil, err
	}
	return map[string]any{"content": line + s.told(r, container, text)}, nil
}

// stands is a line on what is done with a deployment now, which its containers do
// not know; "" where that is nothing.
func (s *Service) stands(ctx context.Context, r *deployment, none bool) (string, error) {
	uid := endpointUID(r.Private[uidKey])
	if f := s.flights.start(uid); f != nil {
		line := "The deployment is being started, since somebody asked."
		if _, why := f.noted(); why != nil {
			text := "what it runs on does not answer."
			if known, ok := errors.AsType[*apierr.Error](why); ok {
				text = known.Message
			}
			line += " It could not be so far, which is tried again: " + text
		}
		return line + "\n", nil
	}
	if n, ok, err := s.Runner.Scaled(ctx, uid); err == nil && ok && n == 0 {
		return atZero + "\n", nil
	}
	if !none {
		return "", nil
	}
	e, err := s.res.Get(ctx, r.ID)
	if err != nil {
		return "", err
	}
	switch state := e.State(); state {
	case "Creating", "Updating", "Scaling":
		return "The deployment has no instance yet: it is " + state + ", and its image or what it runs on is being prepared.\n", nil
	}
	return "", nil
}

// told puts what came before the containers in front of a log: how their image
// was found, and why they do not run.
func (s *Service) told(r *deployment, container, text string) string {
	var b strings.Builder
	if log := r.Private[buildKey]; log != "" && (container == compute.StorageInitializer || text == "") {
		b.WriteString(strings.TrimRight(log, "\n") + "\n")
	}
	b.WriteString(text)
	if why := r.Private[faultKey]; why != "" {
		b.WriteString("The last rollout failed: " + why + "\n")
	}
	return b.String()
}
