package explain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/trace"
)

// readCluster is who may see what runs in a cluster: who may get credentials of it.
const readCluster = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action"

const lately = 3 // refusals that are shown with a pod

// Opens reads the objects of a managed cluster; the function ends that. An
// error that is cluster.ErrNoAPIServer or cluster.ErrUnavailable says why it
// can't be done.
type Opens func(ctx context.Context, cluster *arm.Envelope) (Objects, func(), error)

// workload explains a pod: from its label to the identity that it acts as, and
// gives that one's principal id; "" when the chain breaks before.
func (c *chain) workload() (string, error) {
	ns, name, ok := strings.Cut(c.q.Pod, "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return "", apierr.New(apierr.BadRequest, "InvalidRequestContent", "'%s' is not NAMESPACE/NAME of a pod.", c.q.Pod)
	}
	c.q.Namespace = ns
	e, err := c.find()
	if err != nil || e == nil {
		return "", err
	}
	may := c.p.cfg.MayRead
	if may == nil {
		may = func(ctx context.Context, e *arm.Envelope) error { return arm.Authorise(ctx, readCluster, e.RID()) }
	}
	if err := may(trace.Without(c.ctx), e); err != nil {
		return "", err
	}
	k, done, err := c.p.cfg.Open(c.ctx, e)
	if errors.Is(err, cluster.ErrNoAPIServer) || errors.Is(err, cluster.ErrUnavailable) {
		c.hop(trace.Hop{Step: "cluster", Subject: e.ID, Found: "the cluster's pods can't be read: " + err.Error()})
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer done()
	return c.pod(k, e, ns, name)
}

// pod walks the hops that lie in the cluster, and then those of the identity.
func (c *chain) pod(k Objects, e *arm.Envelope, ns, name string) (string, error) {
	var p pod
	err := k.Get(c.ctx, namespaced(ns, "pods", name), &p)
	if notThere(err) {
		c.hop(trace.Hop{Step: "pod", Subject: c.q.Pod, Found: "there is no such pod in cluster " + e.Name, Fix: fix("kubectl --namespace %s get pods", ns)})
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the pod: %w", err)
	}
	text, ok := p.state()
	h := trace.Hop{Step: "pod", Subject: c.q.Pod, Found: text, OK: ok}
	pulling, err := c.pulling(e, &p)
	if err != nil {
		return "", err
	}
	if len(pulling) == 0 && (strings.Contains(text, ", ErrImagePull after") || strings.Contains(text, ", ImagePullBackOff after")) {
		h.Fix = fix("laz image load --cluster %s FILE", e.Name)
	}
	c.hop(h)
	for _, h := range pulling {
		c.hop(h)
	}
	c.q.ServiceAccount = p.account()
	c.out.Who = "system:serviceaccount:" + ns + ":" + p.account()
	sa, err := c.account(k, &p)
	if err != nil {
		return "", err
	}
	webhook, err := registered(c.ctx, k)
	if err != nil {
		return "", err
	}
	c.injected(&p, sa, webhook, Injects(e))
	return c.trusted(e, &p, sa)
}

// Injects reports whether a managed cluster gives identities to its pods.
func Injects(e *arm.Envelope) bool {
	security, _ := e.Properties["securityProfile"].(map[string]any)
	profile, _ := security["workloadIdentity"].(map[string]any)
	on, _ := profile["enabled"].(bool)
	return on
}

// account looks at the pod's service account; nil when there is none.
func (c *chain) account(k Objects, p *pod) (*account, error) {
	ns := p.Metadata.Namespace
	label, has := p.Metadata.Labels[annUse]
	sa := &account{}
	err := k.Get(c.ctx, namespaced(ns, "serviceaccounts", p.account()), sa)
	if err != nil && !notThere(err) {
		return nil, fmt.Errorf("read the service account: %w", err)
	}
	switch {
	case label == "true":
		c.hop(trace.Hop{Step: "label", OK: true, Found: annUse + ": \"true\""})
	case has:
		c.hop(trace.Hop{Step: "label", Subject: annUse, Found: "the label has another value than the one that counts", Expected: "true", Received: label, Fix: p.labelled()})
	case sa.Metadata.Labels[annUse] != "":
		c.hop(trace.Hop{Step: "label", Subject: annUse, Found: "the service account has the label, and the pod, where alone it counts, has not", Fix: p.labelled()})
	default:
		c.hop(trace.Hop{Step: "label", Subject: annUse, Found: "the pod has no label that asks for an identity", Fix: p.labelled()})
	}
	if notThere(err) {
		c.hop(trace.Hop{Step: "account", Subject: ns + "/" + p.account(), Found: "the pod's service account is gone", Fix: fix("kubectl --namespace %s create serviceaccount %s", ns, p.account())})
		return nil, nil
	}
	client := sa.Metadata.Annotations[annClient]
	if client == "" {
		c.hop(trace.Hop{Step: "account", Subject: ns + "/" + p.account(), Found: "the service account names no identity", Fix: annotate(ns, p.account(), "CLIENT_ID")})
	} else {
		c.hop(trace.Hop{Step: "account", Subject: ns + "/" + p.account(), Found: "it names the client id " + client, OK: true})
	}
	return sa, nil
}

func annotate(ns, name, client string) string {
	return fix("kubectl --namespace %s annotate serviceaccount %s %s=%s --overwrite", ns, name, annClient, client)
}

// injected looks at what the webhook left in the pod.
func (c *chain) injected(p *pod, sa *account, webhook time.Time, enabled bool) {
	if p.Metadata.Labels[annUse] != "true" {
		return // said already, and the label comes first
	}
	if bare := p.bare(); len(bare) > 0 {
		h := trace.Hop{Step: "injected", Subject: strings.Join(bare, ", "), Found: p.whyBare(webhook, enabled), Fix: p.again()}
		c.hop(h)
		return
	}
	list := p.eligible()
	if len(list) == 0 {
		c.hop(trace.Hop{Step: "injected", Subject: annSkip, Found: "the pod's annotation leaves all its containers out"})
		return
	}
	has, _ := list[0].env("AZURE_CLIENT_ID")
	if sa != nil {
		if want := sa.Metadata.Annotations[annClient]; want != has && want != "" {
			c.hop(trace.Hop{Step: "injected", Found: "the service account's annotation is another than when the pod was made, or the pod sets the variable itself", Expected: want, Received: has, Fix: p.again()})
			return
		}
		if want := sa.Metadata.Annotations[annTenant]; want != "" && c.p.cfg.Tenant != "" && !strings.EqualFold(want, c.p.cfg.Tenant) {
			c.hop(trace.Hop{Step: "injected", Found: "the service account's annotation names a tenant that is not this one", Expected: c.p.cfg.Tenant, Received: want,
				Fix: fix("kubectl --namespace %s annotate serviceaccount %s %s-", p.Metadata.Namespace, p.account(), annTenant)})
			return
		}
	}
	var names []string
	for _, one := range list {
		names = append(names, one.Name)
	}
	c.hop(trace.Hop{Step: "injected", OK: true, Found: "variables and token file in " + strings.Join(names, ", ")})
	if t := p.token(); t == nil {
		c.hop(trace.Hop{Step: "token", Found: "no volume of the pod has a token for the exchange", Fix: p.again()})
	} else if t.Audience != audience {
		c.hop(trace.Hop{Step: "token", Found: "the projected token is for another audience", Expected: audience, Received: t.Audience})
	} else {
		c.hop(trace.Hop{Step: "token", OK: true, Found: fmt.Sprintf("projected for %s, good for %d minutes and renewed before", t.Audience, t.ExpirationSeconds/60)})
	}
}

// trusted looks whether the identity that the pod names trusts its service
// account, and gives its principal id.
func (c *chain) trusted(e *arm.Envelope, p *pod, sa *account) (string, error) {
	issuer := c.issuer(e)
	client := ""
	if list := p.eligible(); len(list) > 0 {
		client, _ = list[0].env("AZURE_CLIENT_ID")
	}
	if client == "" && sa != nil {
		client = sa.Metadata.Annotations[annClient]
	}
	if client != "" && c.p.cfg.Apps != nil {
		if app, err := c.p.cfg.Apps.App(client); err == nil {
			return c.application(app, issuer)
		}
	}
	var id *arm.Envelope
	if client != "" {
		var err error
		if id, err = c.named(client, p); err != nil || id == nil {
			return "", err
		}
		c.under = id.ID
	}
	if issuer == "" {
		return "", nil
	}
	fic, err := c.credential(issuer)
	if err != nil {
		return "", err
	}
	if id == nil && fic != nil {
		if id, err = c.p.cfg.Resources.Get(c.ctx, fic.RID().Parent()); err != nil {
			return "", fmt.Errorf("read the identity: %w", err)
		}
		c.hop(trace.Hop{Step: "identity", Subject: id.ID, Found: "this identity trusts the service account, and nothing tells the pod so",
			Fix: annotate(p.Metadata.Namespace, p.account(), fmt.Sprint(id.Properties["clientId"]))})
	}
	if id == nil {
		return "", nil
	}
	oid, _ := id.Properties["principalId"].(string)
	if err := c.refused(client, oid); err != nil || fic == nil {
		return "", err
	}
	return oid, nil
}

// Applications are those of the directory.
type Applications interface {
	App(appID string) (directory.App, error)
	Credentials(appID string) []directory.FederatedCredential
	ServicePrincipalByAppID(appID string) (directory.ServicePrincipal, error)
}

// application looks whether an application that the pod names trusts its
// service account, and gives the object id of its service principal.
func (c *chain) application(app directory.App, issuer string) (string, error) {
	sp, err := c.p.cfg.Apps.ServicePrincipalByAppID(app.AppID)
	if err != nil {
		c.hop(trace.Hop{Step: "identity", Subject: app.AppID, Found: "the application has no service principal in this tenant", Fix: "az ad sp create --id " + app.AppID})
		return "", nil
	}
	c.hop(trace.Hop{Step: "identity", Subject: app.AppID, OK: true, Found: fmt.Sprintf("the application %s, service principal %s", app.DisplayName, sp.ObjectID)})
	if issuer == "" {
		return "", nil
	}
	subject := c.out.Who
	fic, differs, ok := directory.FindCredential(c.p.cfg.Apps.Credentials(app.AppID), directory.Assertion{
		Issuer: issuer, Subject: subject, Audiences: []string{audience}, Claims: map[string]any{"iss": issuer, "sub": subject, "aud": audience},
	})
	create := fix(`az ad app federated-credential create --id %s --parameters '{"name":"%s-%s","issuer":"%s","subject":"%s","audiences":["%s"]}'`,
		app.AppID, c.q.Namespace, strings.ReplaceAll(c.q.ServiceAccount, ".", "-"), issuer, subject, audience)
	switch {
	case ok:
		c.hop(trace.Hop{Step: "credential", Subject: fic.Name, OK: true, Found: "issuer, subject and audience match"})
	case len(differs) == 0:
		c.hop(trace.Hop{Step: "credential", Subject: subject, Found: "there is no federated credential yet", Fix: create})
	}
	for _, m := range differs {
		c.hop(trace.Hop{Step: "credential", Subject: fic.Name, Found: "the " + m.Field + " differs", Expected: m.Expected, Received: m.Received, Fix: create})
	}
	if err := c.refused(app.AppID, sp.ObjectID); err != nil || !ok {
		return "", err
	}
	return sp.ObjectID, nil
}

// named finds the managed identity that has a client id.
func (c *chain) named(client string, p *pod) (*arm.Envelope, error) {
	all, err := c.p.cfg.Resources.List(c.ctx, c.sub, identityType, "", 1000)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if has, _ := e.Properties["clientId"].(string); strings.EqualFold(has, client) {
			c.hop(trace.Hop{Step: "identity", Subject: e.ID, OK: true, Found: fmt.Sprintf("%s, principal id %v", e.Name, e.Properties["principalId"])})
			return e, nil
		}
	}
	for _, e := range all {
		if principal, _ := e.Properties["principalId"].(string); strings.EqualFold(principal, client) {
			right := fmt.Sprint(e.Properties["clientId"])
			c.hop(trace.Hop{Step: "identity", Subject: e.ID, Found: "what the pod takes for a client id is the principal id of " + e.Name, Expected: right, Received: client,
				Fix: annotate(p.Metadata.Namespace, p.account(), right)})
			return nil, nil
		}
	}
	c.hop(trace.Hop{Step: "identity", Subject: client, Found: "no managed identity has this client id", Fix: "az identity list --query \"[].{name:name, clientId:clientId}\" --output table"})
	return nil, nil
}

// refused adds the last refusals of the identity and of the service account.
func (c *chain) refused(client, oid string) error {
	subject := c.out.Who
	list, err := c.p.cfg.Refusals.List(c.ctx, func(t trace.Trace) bool {
		if oid != "" && t.Principal == oid || client != "" && strings.Contains(t.Who, client) || strings.Contains(t.Who, subject) {
			return true
		}
		for _, h := range t.Hops {
			if h.Received == subject || h.Subject == subject {
				return true
			}
		}
		return false
	}, lately)
	if err != nil {
		return err
	}
	c.out.Refusals = list
	return nil
}
