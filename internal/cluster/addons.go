package cluster

import (
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed addons/*.yaml
var addonFiles embed.FS

// addon is a part of a cluster that runs inside it.
type addon struct {
	name string // of the file in addons/, without .yaml
	on   bool
}

// addons are all of them, in the order in which they are applied.
func addons(v Values) []addon {
	if v.Isolated { // no pod reaches the API server, which they live by
		return nil
	}
	return []addon{
		{"coredns", true},
		{"storage", true},
		{"webhook", true}, // also by which pods trust our certificates, identities or not
		{webhookAddon, v.WorkloadIdentity},
		{"networkpolicy-none", !v.NetworkPolicy},
	}
}

// injecting reports whether the webhook is among the add-ons.
func injecting(list []addon) bool {
	return slices.ContainsFunc(list, func(a addon) bool { return a.name == webhookAddon })
}

// webhookAddon is the file by which the webhook injects identities.
const webhookAddon = "workload-identity"

// WebhookImage is the webhook's image, as the distribution has it.
const WebhookImage = "lazurite.dev/azure-workload-identity:v1"

// Values are what the templates of add-ons can say.
type Values struct {
	Cluster    string // name
	ResourceID string
	Location   string
	Version    string // of Kubernetes

	PodCIDR, ServiceCIDR, DNSServiceIP string

	// FrontDoor is the cluster's own address: ports 443 and 80 are the front
	// door, 53 is the resolver that knows the owned names and everything else.
	FrontDoor string

	TenantID      string
	AuthorityHost string // URL with a slash at the end
	Issuer        string // URL with a slash at the end
	CABundle      string // PEM: our authority and the public roots
	CACert        string // PEM: our authority alone
	WebhookImage  string // of the webhook and what it injects

	Replicas         int // of what should survive the loss of a node: 2, or 1 on one node
	Published        bool
	WorkloadIdentity bool
	NetworkPolicy    bool
	Isolated         bool
}

// StorageClasses are the names of the classes of volumes, AKS's for disks.
func (v Values) StorageClasses() []string {
	return []string{"default", "managed", "managed-csi", "managed-csi-premium", "managed-premium"}
}

// NetworkPolicyRefusal is what kubectl says of a network policy.
func (v Values) NetworkPolicyRefusal() string {
	return fmt.Sprintf("network policies are not enforced in the cluster '%s': it was created with --network-policy none, and a policy that is not enforced is not taken. "+
		"A cluster created without that option enforces them.", v.Cluster)
}

// render gives the objects of an add-on.
func (v Values) render(name string) ([]Object, error) {
	raw, err := addonFiles.ReadFile("addons/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("add-on %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"quote": func(s string) (string, error) { b, err := json.Marshal(s); return string(b), err },
		"b64":   func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"indent": func(n int, s string) string {
			return strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+strings.Repeat(" ", n))
		},
	}).Parse(string(raw))
	if err != nil {
		return nil, fmt.Errorf("add-on %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("add-on %s: %w", name, err)
	}
	list, err := ReadObjects(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("add-on %s: %w", name, err)
	}
	return list, nil
}

const (
	applyTime   = time.Minute     // how long an object's apply is tried again
	rolloutTime = 4 * time.Minute // how long an add-on may take to run
	lookAgain   = 250 * time.Millisecond
)

// ApplyAll applies objects in their order. What fails because the API server is
// busy or an earlier object has not taken effect yet is tried again for a while.
func (k *KubeAPI) ApplyAll(ctx context.Context, list []Object) error {
	for _, o := range list {
		err := until(ctx, applyTime, lookAgain, func(ctx context.Context) (bool, error) {
			_, err := k.Apply(ctx, o)
			return err == nil, err
		}, lasting)
		if err != nil {
			return err
		}
	}
	return nil
}

// lasting reports whether an error stays when one asks again.
func lasting(err error) bool {
	switch code := kubeCode(err); code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// DeleteAll takes objects away, the last one first. Namespaces and nodes stay.
func (k *KubeAPI) DeleteAll(ctx context.Context, list []Object) error {
	for _, o := range slices.Backward(list) {
		if o.Kind() == "Namespace" {
			continue
		}
		path, err := o.Path()
		if err != nil {
			return err
		}
		err = until(ctx, applyTime, lookAgain, func(ctx context.Context) (bool, error) {
			err := k.Delete(ctx, path)
			return err == nil, err
		}, lasting)
		if err != nil {
			return fmt.Errorf("delete %s: %w", o, err)
		}
	}
	return nil
}

// until calls try until it is done, its error is a final one, the time is over
// or ctx ends; then the last error counts.
func until(ctx context.Context, most, every time.Duration, try func(context.Context) (bool, error), final func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		done, err := try(ctx)
		if done {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if err != nil && final != nil && final(err) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return last
		}
	}
}

// Rolled waits until those of the objects that run pods run them all, as they
// were applied.
func (k *KubeAPI) Rolled(ctx context.Context, list []Object) error {
	for _, o := range list {
		if o.Kind() != "Deployment" && o.Kind() != "DaemonSet" {
			continue
		}
		path, err := o.Path()
		if err != nil {
			return err
		}
		err = until(ctx, rolloutTime, lookAgain, func(ctx context.Context) (bool, error) {
			var now Object
			if err := k.Get(ctx, path, &now); err != nil {
				return false, err
			}
			if short := missing(now); short != "" {
				return false, fmt.Errorf("%s: %s", o, short)
			}
			return true, nil
		}, nil)
		if err != nil {
			return fmt.Errorf("%w%s", err, k.whyNot(context.WithoutCancel(ctx), o))
		}
	}
	return nil
}

// missing says what a Deployment or DaemonSet still lacks, "" when nothing.
// Source: Kubernetes, kubectl rollout status.
func missing(o Object) string {
	if o.number("status", "observedGeneration") < o.number("metadata", "generation") {
		return "not looked at yet"
	}
	want, updated, available := o.number("spec", "replicas"), o.number("status", "updatedReplicas"), o.number("status", "availableReplicas")
	all := o.number("status", "replicas")
	if o.Kind() == "DaemonSet" {
		want, updated, available = o.number("status", "desiredNumberScheduled"), o.number("status", "updatedNumberScheduled"), o.number("status", "numberAvailable")
		all = updated
	}
	if updated < want || available < want || all > updated {
		return fmt.Sprintf("%d of %d pods are available", available, want)
	}
	return ""
}

// whyNot looks at the pods of o for the reason why they don't run.
func (k *KubeAPI) whyNot(ctx context.Context, o Object) string {
	labels, _ := o["spec"].(map[string]any)["selector"].(map[string]any)["matchLabels"].(map[string]any)
	var selector []string
	for key, v := range labels {
		selector = append(selector, fmt.Sprintf("%s%%3D%v", key, v))
	}
	var pods struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase             string
				Conditions        []struct{ Type, Status, Reason, Message string }
				ContainerStatuses []struct {
					Name  string
					State struct {
						Waiting, Terminated *struct{ Reason, Message string }
					}
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := k.Get(ctx, "/api/v1/namespaces/"+o.Namespace()+"/pods?limit=20&labelSelector="+strings.Join(selector, "%2C"), &pods); err != nil {
		return ""
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			for _, s := range []*struct{ Reason, Message string }{c.State.Waiting, c.State.Terminated} {
				if s != nil && s.Reason != "" && s.Reason != "ContainerCreating" && s.Reason != "Completed" {
					return fmt.Sprintf(" (pod %s: %s %s)", p.Metadata.Name, s.Reason, s.Message)
				}
			}
		}
		for _, c := range p.Status.Conditions {
			if c.Status != "True" && c.Message != "" {
				return fmt.Sprintf(" (pod %s: %s)", p.Metadata.Name, c.Message)
			}
		}
	}
	if len(pods.Items) == 0 {
		return " (it has no pods yet)"
	}
	return ""
}
