package explain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/trace"
)

const (
	podPath     = "/api/v1/namespaces/default/pods/app"
	accountPath = "/api/v1/namespaces/default/serviceaccounts/sa"
	hookPath    = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/azure-wi-webhook-mutating-webhook-configuration"
)

// objects are a cluster's, as its API server writes them.
type objects map[string]string

func (o objects) Get(_ context.Context, path string, out any) error {
	text, ok := o[path]
	if !ok {
		return fmt.Errorf("ask: %w", &cluster.KubeError{Code: 404, Reason: "NotFound"})
	}
	return json.Unmarshal([]byte(text), out)
}

// healthy is a cluster with a pod for which everything fits.
func healthy() objects {
	return objects{
		podPath: `{"metadata":{"name":"app","namespace":"default","creationTimestamp":"2026-01-02T00:00:00Z",
			"labels":{"azure.workload.identity/use":"true","pod-template-hash":"5d4"},"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4"}]},
			"spec":{"serviceAccountName":"sa","nodeName":"n0","containers":[{"name":"main",
				"env":[{"name":"AZURE_CLIENT_ID","value":"client"},{"name":"AZURE_FEDERATED_TOKEN_FILE","value":"/var/run/secrets/azure/wi/token/azure-identity-token"}],
				"volumeMounts":[{"name":"azure-workload-identity-reserved-1","mountPath":"/var/run/secrets/azure/wi"}]}],
			"volumes":[{"name":"azure-workload-identity-reserved-1","projected":{"sources":[{"serviceAccountToken":{"audience":"api://AzureADTokenExchange","expirationSeconds":3600,"path":"t"}}]}}]},
			"status":{"phase":"Running"}}`,
		accountPath: `{"metadata":{"name":"sa","namespace":"default","annotations":{"azure.workload.identity/client-id":"client"}}}`,
		hookPath:    `{"metadata":{"creationTimestamp":"2026-01-01T00:00:00Z"}}`,
	}
}

// with is o with a text at a path replaced.
func (o objects) with(t *testing.T, path, old, text string) objects {
	t.Helper()
	if !strings.Contains(o[path], old) {
		t.Fatalf("%s has no %q", path, old)
	}
	c := maps.Clone(o)
	c[path] = strings.ReplaceAll(c[path], old, text)
	return c
}

func (o objects) without(path string) objects {
	c := maps.Clone(o)
	delete(c, path)
	return c
}

// past are the refusals on record.
type past []trace.Trace

func (past) Find(context.Context, string, func(trace.Trace) bool) (trace.Trace, error) {
	return trace.Trace{}, errNone
}

func (past) Last(context.Context, func(trace.Trace) bool) (trace.Trace, error) {
	return trace.Trace{}, errNone
}

func (p past) List(_ context.Context, want func(trace.Trace) bool, _ int) ([]trace.Trace, error) {
	return slices.DeleteFunc(slices.Clone(p), func(t trace.Trace) bool { return !want(t) }), nil
}

// podWorld is an API server and the resources around it.
type podWorld struct {
	world
	kube    objects
	enabled bool
	refuse  error // of whoever asks
	open    error
	apps    explain.Applications
}

func (w podWorld) ask(t *testing.T, body string) (explain.Answer, error) {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res := arm.Resources{Store: s}
	const ids = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	for id, props := range map[string]map[string]any{
		group + "/providers/Microsoft.ContainerService/managedClusters/c": {
			"oidcIssuerProfile": map[string]any{"enabled": w.issuerOn, "issuerURL": issuer},
			"securityProfile":   map[string]any{"workloadIdentity": map[string]any{"enabled": w.enabled}},
		},
		ids + "i":                                {"clientId": "client", "principalId": "principal"},
		ids + "j":                                {"clientId": "other", "principalId": "other-principal"},
		ids + "i/federatedIdentityCredentials/f": {"issuer": w.iss, "subject": w.sub, "audiences": []string{w.aud}},
	} {
		r := rid.MustParse(id)
		if err := res.Put(t.Context(), &arm.Envelope{ID: id, Name: r.Name(), Type: r.Type(), Properties: props}); err != nil {
			t.Fatal(err)
		}
	}
	p := explain.New(explain.Config{
		Resources: res, NotFound: errNone, Policy: allows(w.allowed), Tenant: "t", Apps: w.apps, MayRead: func(context.Context, *arm.Envelope) error { return w.refuse },
		Refusals: past{{Principal: "principal", Outcome: "Forbidden"}, {Principal: "stranger"}, {Hops: []trace.Hop{{Received: subject}}}},
		Open: func(context.Context, *arm.Envelope) (explain.Objects, func(), error) {
			return w.kube, func() {}, w.open
		},
	})
	r, err := p.Endpoints[2].Handle(t.Context(), &arm.Request{Params: map[string]string{"subscriptionId": strings.TrimPrefix(sub, "/subscriptions/")}, Body: json.RawMessage(body)})
	if err != nil {
		return explain.Answer{}, err
	}
	return r.Body.(explain.Answer), nil
}

const podQuestion = `{"pod":"default/app"}`

func TestPod_TheWholeChain(t *testing.T) {
	a, err := podWorld{world: right(), kube: healthy(), enabled: true}.ask(t, podQuestion)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, h := range a.Hops {
		steps = append(steps, h.Step)
	}
	if got := strings.Join(steps, " "); !a.Allowed || got != "pod label account injected token issuer identity credential" {
		t.Errorf("allowed %v: %s\n%+v", a.Allowed, got, a.Hops)
	}
	if len(a.Refusals) != 2 || a.Who != subject {
		t.Errorf("who %q, refusals %+v", a.Who, a.Refusals)
	}
}

func TestPod_WhatIsWrong(t *testing.T) {
	fine := right()
	slip := right()
	slip.sub = "system:serviceaccount:default:SA"
	kube := healthy()
	label := `"azure.workload.identity/use":"true",`
	unowned := kube.with(t, podPath, `"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4"}]`, `"x":1`)
	for name, c := range map[string]struct {
		w               podWorld
		step, said, fix string
	}{
		"no pod":       {podWorld{fine, kube.without(podPath), true, nil, nil, nil}, "pod", "no such pod", "get pods"},
		"not running":  {podWorld{fine, kube.with(t, podPath, `"phase":"Running"`, `"phase":"Pending","containerStatuses":[{"name":"main","state":{"waiting":{"reason":"ImagePullBackOff","message":"no such image"}}}]`), true, nil, nil, nil}, "pod", "ImagePullBackOff after 0 restarts: no such image", "laz image load --cluster c FILE"},
		"unscheduled":  {podWorld{fine, kube.with(t, podPath, `"phase":"Running"`, `"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"Insufficient cpu"}]`), true, nil, nil, nil}, "pod", "on no node, Unschedulable: Insufficient cpu", ""},
		"no label":     {podWorld{fine, kube.with(t, podPath, label, ""), true, nil, nil, nil}, "label", "no label", "patch deployment web"},
		"other label":  {podWorld{fine, kube.with(t, podPath, label, `"azure.workload.identity/use":"True",`), true, nil, nil, nil}, "label", "another value", "patch deployment web"},
		"on account":   {podWorld{fine, kube.with(t, podPath, label, "").with(t, accountPath, `"name":"sa"`, `"name":"sa","labels":{"azure.workload.identity/use":"true"}`), true, nil, nil, nil}, "label", "service account has the label", "patch deployment web"},
		"no account":   {podWorld{fine, kube.without(accountPath), true, nil, nil, nil}, "account", "is gone", "create serviceaccount sa"},
		"unannotated":  {podWorld{fine, kube.with(t, accountPath, "client-id", "x"), true, nil, nil, nil}, "account", "names no identity", "annotate serviceaccount sa"},
		"not injected": {podWorld{fine, kube.with(t, podPath, "AZURE_FEDERATED_TOKEN_FILE", "X"), true, nil, nil, nil}, "injected", "had no label then", "rollout restart deployment web"},
		"alone":        {podWorld{fine, unowned.with(t, podPath, "AZURE_FEDERATED_TOKEN_FILE", "X"), true, nil, nil, nil}, "injected", "main", "delete pod app"},
		"turned off":   {podWorld{fine, kube.with(t, podPath, "AZURE_FEDERATED_TOKEN_FILE", "X"), false, nil, nil, nil}, "injected", "workload identity is off", ""},
		"no webhook":   {podWorld{fine, kube.with(t, podPath, "AZURE_FEDERATED_TOKEN_FILE", "X").without(hookPath), true, nil, nil, nil}, "injected", "not registered", ""},
		"older":        {podWorld{fine, kube.with(t, podPath, "AZURE_FEDERATED_TOKEN_FILE", "X").with(t, hookPath, "2026-01-01", "2026-01-03"), true, nil, nil, nil}, "injected", "older than the webhook", ""},
		"all skipped":  {podWorld{fine, kube.with(t, podPath, `"labels"`, `"annotations":{"azure.workload.identity/skip-containers":" main;x"},"labels"`), true, nil, nil, nil}, "injected", "leaves all its containers out", ""},
		"changed":      {podWorld{fine, kube.with(t, podPath, `"value":"client"`, `"value":"other"`), true, nil, nil, nil}, "injected", "another than when the pod was made", "rollout restart"},
		"tenant":       {podWorld{fine, kube.with(t, accountPath, `client-id":"client"`, `client-id":"client","azure.workload.identity/tenant-id":"u"`), true, nil, nil, nil}, "injected", "tenant", "tenant-id-"},
		"audience":     {podWorld{fine, kube.with(t, podPath, "api://AzureADTokenExchange", "api://x"), true, nil, nil, nil}, "token", "another audience", ""},
		"principal id": {podWorld{fine, kube.with(t, podPath, `"value":"client"`, `"value":"principal"`).with(t, accountPath, `"client"`, `"principal"`), true, nil, nil, nil}, "identity", "is the principal id of i", "client-id=client"},
		"nobody":       {podWorld{fine, kube.with(t, podPath, `"value":"client"`, `"value":"none"`).with(t, accountPath, `"client"`, `"none"`), true, nil, nil, nil}, "identity", "no managed identity", "identity list"},
		"elsewhere":    {podWorld{fine, kube.with(t, podPath, `"value":"client"`, `"value":"other"`).with(t, accountPath, `"client"`, `"other"`), true, nil, nil, nil}, "credential", "another identity, i, trusts", "--identity-name j"},
		"letter case":  {podWorld{slip, kube, true, nil, nil, nil}, "credential", "only in letter case", "--subject system:serviceaccount:default:sa"},
		"no access":    {podWorld{fine, kube, true, nil, fmt.Errorf("x: %w", cluster.ErrNoAPIServer), nil}, "cluster", "no API server", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := c.w.ask(t, podQuestion)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(a.Hops, func(h trace.Hop) bool { return !h.OK })
			if a.Allowed || i < 0 || a.Hops[i].Step != c.step || !strings.Contains(a.Hops[i].Found, c.said) || !strings.Contains(a.Hops[i].Fix, c.fix) {
				t.Errorf("allowed %v: %+v", a.Allowed, a.Hops)
			}
		})
	}
}

// app is the directory: one application with one credential.
type app struct{ subject string }

func (app) App(id string) (directory.App, error) {
	if id != "application" {
		return directory.App{}, errNone
	}
	return directory.App{AppID: id, DisplayName: "my app"}, nil
}

func (a app) Credentials(string) []directory.FederatedCredential {
	if a.subject == "" {
		return nil
	}
	return []directory.FederatedCredential{{Name: "f", Issuer: issuer, Subject: a.subject, Audiences: []string{"api://AzureADTokenExchange"}}}
}

func (a app) ServicePrincipalByAppID(string) (directory.ServicePrincipal, error) {
	if a.subject == "none" {
		return directory.ServicePrincipal{}, errNone
	}
	return directory.ServicePrincipal{ObjectID: "principal"}, nil
}

func TestPod_AsAnApplication(t *testing.T) {
	kube := healthy().with(t, podPath, `"value":"client"`, `"value":"application"`).with(t, accountPath, `"client"`, `"application"`)
	for has, want := range map[string]string{subject: "", "system:serviceaccount:default:SA": "the subject differs", "": "no federated credential yet", "none": "no service principal"} {
		a, err := podWorld{world: right(), kube: kube, enabled: true, apps: app{has}}.ask(t, podQuestion)
		if err != nil {
			t.Fatal(err)
		}
		last := a.Hops[len(a.Hops)-1]
		if a.Allowed != (want == "") || want != "" && (!strings.Contains(last.Found, want) || !strings.HasPrefix(last.Fix, "az ad ")) {
			t.Errorf("%q: %+v", has, a.Hops)
		}
	}
}

func TestPod_Refusals(t *testing.T) {
	no := apierr.New(apierr.Forbidden, "AuthorizationFailed", "no")
	if _, err := (podWorld{world: right(), kube: healthy(), refuse: no}).ask(t, podQuestion); !apierr.Is(err, apierr.Forbidden) {
		t.Errorf("who may not read the cluster: got %v", err)
	}
	for _, body := range []string{`{"pod":"app"}`, `{"pod":"/app"}`, `{"pod":"a/b/c"}`, `{"pod":"a/b","principal":"p","to":"/x"}`} {
		if _, err := (podWorld{world: right(), kube: healthy()}).ask(t, body); err == nil || !strings.Contains(err.Error(), "InvalidRequestContent") {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestFindUninjected(t *testing.T) {
	one := healthy()[podPath]
	item := func(name, old, text string) string {
		return strings.Replace(strings.Replace(one, `"name":"app"`, `"name":"`+name+`"`, 1), old, text, 1)
	}
	label := `"azure.workload.identity/use":"true",`
	k := objects{
		hookPath:                  healthy()[hookPath],
		"/api/v1/serviceaccounts": `{"items":[` + healthy()[accountPath] + `]}`,
		"/api/v1/pods?limit=500&continue=": `{"metadata":{"continue":"more/+"},"items":[` + one + `,` + item("bare", "AZURE_FEDERATED_TOKEN_FILE", "X") + `,` +
			item("over", `"phase":"Running"`, `"phase":"Succeeded"`) + `]}`,
		"/api/v1/pods?limit=500&continue=more%2F%2B": `{"items":[` + item("forgot", label, "") + `,` + item("yes", label, `"azure.workload.identity/use":"yes",`) + `,` +
			strings.Replace(item("free", label, ""), `"serviceAccountName":"sa"`, `"serviceAccountName":""`, 1) + `]}`,
	}
	got, err := explain.FindUninjected(t.Context(), k, true)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, u := range got {
		said = append(said, u.Namespace+"/"+u.Name+": "+u.Why)
	}
	want := []string{"default/bare: not injected into main", "default/forgot: its service account sa names an identity", `default/yes: the label azure.workload.identity/use is "yes"`}
	if len(said) != len(want) {
		t.Fatalf("got %q", said)
	}
	for i := range want {
		if !strings.HasPrefix(said[i], want[i]) {
			t.Errorf("got %q, want %q", said[i], want[i])
		}
	}
}
