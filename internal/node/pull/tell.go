package pull

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// mostMessage is how long an event's message may be. Source: Kubernetes, events.
const mostMessage = 1000

// advice is what to type where the cluster can't pull.
func (c Config) advice(host string) string {
	name, _, _ := strings.Cut(host, ".")
	parts := strings.Split(c.Cluster, "/")
	if len(parts) != 9 { // /subscriptions/S/resourceGroups/G/providers/N/T/NAME
		return ""
	}
	return fmt.Sprintf(" To let the cluster pull: az aks update --name %s --resource-group %s --attach-acr %s", parts[8], parts[4], name)
}

// pod is a Pod, as far as it waits for images.
type pod struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		ImagePullSecrets    []struct{}  `json:"imagePullSecrets"`
		InitContainers      []container `json:"initContainers"`
		Containers          []container `json:"containers"`
		EphemeralContainers []container `json:"ephemeralContainers"`
	} `json:"spec"`
	Status struct {
		InitContainerStatuses      []status `json:"initContainerStatuses"`
		ContainerStatuses          []status `json:"containerStatuses"`
		EphemeralContainerStatuses []status `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

type status struct {
	Name  string `json:"name"`
	State struct {
		Waiting *struct{} `json:"waiting"`
	} `json:"state"`
}

// waits reports whether a container of the pod waits for the image, and the pod
// brings no credentials of its own.
func (p pod) waits(image string) bool {
	if len(p.Spec.ImagePullSecrets) > 0 {
		return false
	}
	begun := map[string]bool{}
	for _, list := range [][]status{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, s := range list {
			begun[s.Name] = s.State.Waiting == nil
		}
	}
	for _, list := range [][]container{p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers} {
		for _, one := range list {
			if !begun[one.Name] && repository(one.Image) == repository(image) {
				return true
			}
		}
	}
	return false
}

// repository is an image's name without tag and digest: that is what the
// kubelet asks for.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// tell gives an event to the pods of this node that wait for the image. The
// kubelet itself logs what a provider says, and shows pods only that the
// registry wants credentials.
func (c Config) tell(ctx context.Context, image, message string) error {
	if c.API.Server == "" {
		return nil
	}
	client, err := c.API.client()
	if err != nil {
		return fmt.Errorf("telling the pods: %w", err)
	}
	defer client.CloseIdleConnections()
	var list struct {
		Items []pod `json:"items"`
	}
	mine := url.Values{"fieldSelector": {"spec.nodeName=" + c.Node}}
	if err := c.API.do(ctx, client, http.MethodGet, "/api/v1/pods?"+mine.Encode(), nil, &list); err != nil {
		return fmt.Errorf("telling the pods: %w", err)
	}
	var errs []error
	for _, p := range list.Items {
		if p.waits(image) {
			errs = append(errs, c.API.do(ctx, client, http.MethodPost, "/api/v1/namespaces/"+url.PathEscape(p.Metadata.Namespace)+"/events", c.event(p, message), nil))
		}
	}
	return errors.Join(errs...)
}

// event is a warning about a pod. Source: Kubernetes API reference, Event v1.
func (c Config) event(p pod, message string) any {
	now := time.Now().UTC().Format(time.RFC3339)
	return map[string]any{
		"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"generateName": p.Metadata.Name + ".", "namespace": p.Metadata.Namespace},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.Metadata.Name, "namespace": p.Metadata.Namespace, "uid": p.Metadata.UID},
		"reason":         "FailedToGetImageCredentials", "message": clip(message, mostMessage), "type": "Warning", "count": 1,
		"source": map[string]any{"component": Program, "host": c.Node}, "firstTimestamp": now, "lastTimestamp": now,
	}
}

func (a API) client() (*http.Client, error) {
	pool, err := pool(a.CAFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.CertFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}}, nil
}

const mostPods = 64 << 20 // bytes of a list of a node's pods

func (a API) do(ctx context.Context, client *http.Client, method, path string, body, out any) error {
	var send io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.Server+path, send)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s", method, req.URL.Path, res.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(res.Body, mostPods)).Decode(out)
}
