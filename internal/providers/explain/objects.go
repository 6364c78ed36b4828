package explain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
)

// Objects reads a cluster's objects by their paths at its API server. An
// object that is not there is a *cluster.KubeError with code 404.
type Objects interface {
	Get(ctx context.Context, path string, out any) error
}

// The labels and annotations of workload identity. Source: Azure Workload
// Identity, "Labels and Annotations".
const (
	annUse    = "azure.workload.identity/use"
	annClient = "azure.workload.identity/client-id"
	annTenant = "azure.workload.identity/tenant-id"
	annSkip   = "azure.workload.identity/skip-containers"
)

const webhookPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/azure-wi-webhook-mutating-webhook-configuration"

// meta is an object's metadata. Source: Kubernetes API reference, ObjectMeta.
type meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	OwnerReferences   []struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"ownerReferences"`
}

// pod is a Pod, as far as an identity depends on it.
type pod struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		ServiceAccountName string      `json:"serviceAccountName"`
		NodeName           string      `json:"nodeName"`
		InitContainers     []container `json:"initContainers"`
		Containers         []container `json:"containers"`
		Volumes            []volume    `json:"volumes"`
	} `json:"spec"`
	Status podStatus `json:"status"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	Env   []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	VolumeMounts []struct {
		Name      string `json:"name"`
		MountPath string `json:"mountPath"`
	} `json:"volumeMounts"`
}

type volume struct {
	Name      string `json:"name"`
	Projected *struct {
		Sources []struct {
			ServiceAccountToken *tokenSource `json:"serviceAccountToken"`
		} `json:"sources"`
	} `json:"projected"`
}

type tokenSource struct {
	Audience          string `json:"audience"`
	ExpirationSeconds int    `json:"expirationSeconds"`
	Path              string `json:"path"`
}

type podStatus struct {
	Phase      string `json:"phase"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
	Conditions []struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"conditions"`
	InitContainerStatuses []containerStatus `json:"initContainerStatuses"`
	ContainerStatuses     []containerStatus `json:"containerStatuses"`
}

type containerStatus struct {
	Name         string `json:"name"`
	RestartCount int    `json:"restartCount"`
	State        struct {
		Waiting *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"waiting"`
	} `json:"state"`
}

// account is a ServiceAccount.
type account struct {
	Metadata meta `json:"metadata"`
}

func notThere(err error) bool {
	e, ok := errors.AsType[*cluster.KubeError](err)
	return ok && e.Code == http.StatusNotFound
}

func namespaced(ns, kind, name string) string {
	return "/api/v1/namespaces/" + url.PathEscape(ns) + "/" + kind + "/" + url.PathEscape(name)
}

// account is the name of the pod's service account.
func (p *pod) account() string {
	if p.Spec.ServiceAccountName == "" {
		return "default"
	}
	return p.Spec.ServiceAccountName
}

// env is a variable of a container, and whether it is there.
func (c *container) env(name string) (string, bool) {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value, true
		}
	}
	return "", false
}

// eligible are the containers that the webhook gives an identity.
func (p *pod) eligible() []*container {
	var skip, out = []string{}, []*container{}
	for n := range strings.SplitSeq(p.Metadata.Annotations[annSkip], ";") {
		skip = append(skip, strings.TrimSpace(n))
	}
	for _, list := range [][]container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if !slices.Contains(skip, list[i].Name) {
				out = append(out, &list[i])
			}
		}
	}
	return out
}

// token is the projected token for the exchange; nil when there is none.
func (p *pod) token() *tokenSource {
	for _, v := range p.Spec.Volumes {
		if v.Projected == nil || !strings.HasPrefix(v.Name, "azure-") {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return s.ServiceAccountToken
			}
		}
	}
	return nil
}

// bare are the eligible containers that were not injected.
func (p *pod) bare() []string {
	var out []string
	for _, c := range p.eligible() {
		file, ok := c.env("AZURE_FEDERATED_TOKEN_FILE")
		mounted := slices.ContainsFunc(c.VolumeMounts, func(m struct {
			Name      string `json:"name"`
			MountPath string `json:"mountPath"`
		}) bool {
			return strings.HasPrefix(file, m.MountPath+"/")
		})
		if !ok || !mounted {
			out = append(out, c.Name)
		}
	}
	return out
}

// owner is what makes pods like this one, as kubectl names it: "deployment x";
// "" for a pod that nothing makes again.
func (p *pod) owner() string {
	if len(p.Metadata.OwnerReferences) == 0 {
		return ""
	}
	o, hash := p.Metadata.OwnerReferences[0], p.Metadata.Labels["pod-template-hash"]
	if deployment, ok := strings.CutSuffix(o.Name, "-"+hash); ok && hash != "" && o.Kind == "ReplicaSet" {
		return "deployment " + deployment
	}
	return strings.ToLower(o.Kind) + " " + o.Name
}

// again is the command that has the pod made anew.
func (p *pod) again() string {
	switch kind, _, _ := strings.Cut(p.owner(), " "); kind {
	case "deployment", "statefulset", "daemonset":
		return fix("kubectl --namespace %s rollout restart %s", p.Metadata.Namespace, p.owner())
	case "":
		return fix("kubectl --namespace %[1]s get pod %[2]s --output yaml > pod.yaml && kubectl --namespace %[1]s delete pod %[2]s && kubectl apply --filename pod.yaml", p.Metadata.Namespace, p.Metadata.Name)
	}
	return fix("kubectl --namespace %s delete pod %s", p.Metadata.Namespace, p.Metadata.Name)
}

// labelled is the command that puts the label where pods like this one come from.
func (p *pod) labelled() string {
	switch kind, _, _ := strings.Cut(p.owner(), " "); kind {
	case "deployment", "statefulset", "daemonset", "replicaset":
		return fix(`kubectl --namespace %s patch %s --type merge --patch '{"spec":{"template":{"metadata":{"labels":{"%s":"true"}}}}}'`, p.Metadata.Namespace, p.owner(), annUse)
	}
	return ""
}

// state says whether the pod runs, and why not.
func (p *pod) state() (string, bool) {
	where := ""
	if p.Spec.NodeName != "" {
		where = " on " + p.Spec.NodeName
	}
	for _, list := range [][]containerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
				return strings.TrimSuffix(fmt.Sprintf("container %s waits%s, %s after %d restarts: %s", c.Name, where, w.Reason, c.RestartCount, w.Message), ": "), false
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			return strings.TrimSuffix(fmt.Sprintf("it is on no node, %s: %s", c.Reason, c.Message), ": "), false
		}
	}
	if text := strings.TrimSpace(p.Status.Reason + " " + p.Status.Message); text != "" {
		return p.Status.Phase + where + ": " + text, p.Status.Phase == "Running"
	}
	return p.Status.Phase + where, p.Status.Phase == "Running" || p.Status.Phase == "Succeeded"
}

// whyBare says why a labelled pod was not injected. webhook is when the one
// that injects was registered, the zero time when it is not.
func (p *pod) whyBare(webhook time.Time, enabled bool) string {
	names := strings.Join(p.bare(), ", ")
	switch {
	case !enabled:
		return fmt.Sprintf("not injected into %s: workload identity is off in this cluster", names)
	case webhook.IsZero():
		return fmt.Sprintf("not injected into %s: the webhook is not registered with the API server", names)
	case p.Metadata.CreationTimestamp.Before(webhook):
		return fmt.Sprintf("not injected into %s: the pod is older than the webhook", names)
	}
	return fmt.Sprintf("not injected into %s: a pod is injected when it is made, and this one had no label then", names)
}

// Uninjected is a pod that lacks its identity.
type Uninjected struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Why       string `json:"why"`
	Fix       string `json:"fix,omitempty"`
}

const podPage = 500

// FindUninjected lists the pods that say they use an identity and run without,
// and those whose service account names one but that don't say so. enabled
// says whether the cluster injects at all.
func FindUninjected(ctx context.Context, k Objects, enabled bool) ([]Uninjected, error) {
	webhook, err := registered(ctx, k)
	if err != nil {
		return nil, err
	}
	names, err := identified(ctx, k)
	if err != nil {
		return nil, err
	}
	var out []Uninjected
	for next := ""; ; {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []pod `json:"items"`
		}
		if err := k.Get(ctx, fmt.Sprintf("/api/v1/pods?limit=%d&continue=%s", podPage, url.QueryEscape(next)), &page); err != nil {
			return nil, fmt.Errorf("list the pods: %w", err)
		}
		for i := range page.Items {
			if u, bad := judge(&page.Items[i], webhook, enabled, names); bad {
				out = append(out, u)
			}
		}
		if next = page.Metadata.Continue; next == "" {
			return out, nil
		}
	}
}

func judge(p *pod, webhook time.Time, enabled bool, identified map[string]bool) (Uninjected, bool) {
	u := Uninjected{Namespace: p.Metadata.Namespace, Name: p.Metadata.Name}
	label, has := p.Metadata.Labels[annUse]
	if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return u, false
	}
	switch {
	case has && label == "true" && len(p.bare()) > 0:
		u.Why, u.Fix = p.whyBare(webhook, enabled), p.again()
	case has && label != "true":
		u.Why, u.Fix = fmt.Sprintf("the label %s is %q, and only \"true\" counts", annUse, label), p.labelled()
	case !has && identified[p.Metadata.Namespace+"/"+p.account()]:
		u.Why = fmt.Sprintf("its service account %s names an identity, but the pod has no label %s: \"true\"", p.account(), annUse)
		u.Fix = p.labelled()
	default:
		return u, false
	}
	return u, true
}

// registered is when the webhook was registered; the zero time when it is not.
func registered(ctx context.Context, k Objects) (time.Time, error) {
	var w struct {
		Metadata meta `json:"metadata"`
	}
	err := k.Get(ctx, webhookPath, &w)
	if notThere(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look for the webhook: %w", err)
	}
	return w.Metadata.CreationTimestamp, nil
}

// identified are the service accounts that name an identity: "NAMESPACE/NAME".
func identified(ctx context.Context, k Objects) (map[string]bool, error) {
	var list struct {
		Items []account `json:"items"`
	}
	if err := k.Get(ctx, "/api/v1/serviceaccounts", &list); err != nil {
		return nil, fmt.Errorf("list the service accounts: %w", err)
	}
	out := map[string]bool{}
	for _, a := range list.Items {
		if a.Metadata.Annotations[annClient] != "" {
			out[a.Metadata.Namespace+"/"+a.Metadata.Name] = true
		}
	}
	return out, nil
}
