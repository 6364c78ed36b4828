package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// The troubleshooting steps for managed online endpoints in isolated networks
// (Azure Machine Learning, "Secure managed online endpoints with network
// isolation"), all of them, for one endpoint.

func doctorNoun() noun {
	return noun{name: "doctor", short: "Look for what is wrong.", commands: func() []*command {
		return []*command{{
			path: "doctor endpoint", short: "Look why an online endpoint can't be made, found or scored: every step, and the first that fails.",
			example: "doctor endpoint myEndpoint -g myGroup -w myWorkspace",
			args:    append([]arg{{name: "name", help: "Name of the endpoint.", pos: true, need: true}}, inWorkspace()...),
			text:    doctorText,
			table:   "findings[].{About:about, Result:result, Text:text, Fix:fix}",
			run:     workspaced(runDoctorEndpoint),
		}}
	}}
}

// The outcomes of a step, as `laz doctor` has them.
const (
	stepOK     = "ok"
	stepNotice = "notice" // worth knowing
	stepWrong  = "wrong"
)

// examination is one endpoint that is looked at.
type examination struct {
	w           *workspace
	name        string
	ws          any // the workspace, nil where it can't be read
	endpoint    any // nil where there is none
	deployments []any
	findings    []any
}

func (e *examination) say(about, result, text string, fix ...string) {
	f := object{"about": about, "result": result, "text": text}
	if len(fix) > 0 && fix[0] != "" {
		f["fix"] = fix[0]
	}
	e.findings = append(e.findings, f)
}

// failed says that a step couldn't be done.
func (e *examination) failed(about string, err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	e.say(about, stepWrong, text)
}

// flags name the workspace in commands that mend.
func (e *examination) flags() string {
	return "-g " + e.w.c.text("resource-group") + " -w " + e.w.c.text("workspace-name")
}

func runDoctorEndpoint(ctx context.Context, c *call, w *workspace) (any, error) {
	e := &examination{w: w, name: c.text("name")}
	for _, step := range []func(context.Context) bool{e.workspace, e.exists, e.keyVault, e.network, e.images, e.privateName, e.deployed, e.traffic, e.credentials, e.reach, e.logs} {
		if !step(ctx) {
			break
		}
	}
	out := object{"endpoint": e.name, "findings": e.findings, "first": nil}
	for _, f := range e.findings {
		if textAt(f, "result") == stepWrong {
			out["first"] = f
			return out, errVerdict
		}
	}
	return out, nil
}

// workspace: v1_legacy_mode off.
func (e *examination) workspace(ctx context.Context) bool {
	v, err := e.w.m.get(ctx, e.w.path, mlVersion)
	if err != nil {
		e.failed("workspace", err)
		return false
	}
	e.ws = v
	name := textAt(v, "name")
	switch state := textAt(v, "properties", "provisioningState"); {
	case at(v, "properties", "v1LegacyMode") == true:
		e.say("workspace", stepWrong, "v1_legacy_mode is on: managed online endpoints don't work in it",
			"az ml workspace update -g "+e.w.c.text("resource-group")+" -n "+name+" --set v1_legacy_mode=false")
	case !strings.EqualFold(state, "Succeeded"):
		e.say("workspace", stepWrong, "its state is "+state)
	default:
		e.say("workspace", stepOK, name+" is there, v1_legacy_mode is off")
	}
	return true
}

func (e *examination) exists(ctx context.Context) bool {
	v, d, err := e.w.endpoint(ctx, e.name)
	if isStatus(err, http.StatusNotFound) {
		e.say("endpoint", stepWrong, "there is no endpoint "+e.name+" in the workspace", "az ml online-endpoint create "+e.flags()+" -n "+e.name+" --auth-mode key")
		return true // the steps that say why it may not have been made follow
	}
	if err != nil {
		e.failed("endpoint", err)
		return false
	}
	e.endpoint, e.deployments = v, d
	if s := textAt(v, "properties", "provisioningState"); !strings.EqualFold(s, "Succeeded") {
		e.say("endpoint", stepWrong, "its state is "+s, "az ml online-endpoint update "+e.flags()+" -n "+e.name)
		return true
	}
	e.say("endpoint", stepOK, e.name+" is there; public network access: "+strings.ToLower(textAt(v, "properties", "publicNetworkAccess")))
	return true
}

// keyVault: trusted services get past its firewall.
func (e *examination) keyVault(ctx context.Context) bool {
	id := textAt(e.ws, "properties", "keyVault")
	if id == "" {
		e.say("key vault", stepWrong, "the workspace names none")
		return true
	}
	v, err := e.w.m.get(ctx, id, vaultVersion)
	if err != nil {
		e.failed("key vault", err)
		return true
	}
	bypass := firstNonEmpty(textAt(v, "properties", "networkAcls", "bypass"), "AzureServices")
	if bypass != "AzureServices" {
		e.say("key vault", stepWrong, "bypass is "+bypass+": endpoints with keys can't be made", "az keyvault update -n "+textAt(v, "name")+" --bypass AzureServices")
		return true
	}
	e.say("key vault", stepOK, textAt(v, "name")+": bypass is AzureServices")
	return true
}

// network: the managed network runs and its rules are in force.
func (e *examination) network(ctx context.Context) bool {
	net := at(e.ws, "properties", "managedNetwork")
	mode := firstNonEmpty(textAt(net, "isolationMode"), "Disabled")
	if mode == "Disabled" {
		e.say("managed network", stepOK, "not isolated")
		return true
	}
	if s := textAt(net, "status", "status"); !strings.EqualFold(s, "Active") {
		e.say("managed network", stepWrong, "it is "+firstNonEmpty(s, "Inactive")+": no deployment runs in it yet",
			"az ml workspace provision-network -g "+e.w.c.text("resource-group")+" -n "+textAt(e.ws, "name"))
		return true
	}
	rules, err := e.w.list(ctx, "outboundRules")
	if err != nil {
		e.failed("managed network", err)
		return true
	}
	var idle []string
	for _, r := range rules {
		if s := textAt(r, "properties", "status"); s != "" && !strings.EqualFold(s, "Active") {
			idle = append(idle, textAt(r, "name"))
		}
	}
	if len(idle) > 0 {
		e.say("managed network", stepNotice, "rules that are not in force: "+strings.Join(idle, ", "), "az ml workspace outbound-rule list "+e.flags())
		return true
	}
	e.say("managed network", stepOK, fmt.Sprintf("%s, active, %d rules in force", snakeCase(mode), len(rules)))
	return true
}

// isolated reports whether a workspace has a managed network.
func isolated(ws any) bool {
	mode := textAt(ws, "properties", "managedNetwork", "isolationMode")
	return mode != "" && !strings.EqualFold(mode, "Disabled")
}

// images: the registry lets the deployments in.
func (e *examination) images(ctx context.Context) bool {
	id := textAt(e.ws, "properties", "containerRegistry")
	if id == "" {
		e.say("registry", stepOK, "the workspace has none of its own: images come from this machine")
		return true
	}
	v, err := e.w.m.get(ctx, id, registryVersion)
	if err != nil {
		e.failed("registry", err)
		return true
	}
	private := strings.EqualFold(textAt(v, "properties", "publicNetworkAccess"), "Disabled")
	for _, d := range e.deployments {
		if private && strings.EqualFold(textAt(d, "properties", "egressPublicNetworkAccess"), "Enabled") && !isolated(e.ws) {
			e.say("registry", stepWrong, "it is private, and the deployment "+textAt(d, "name")+" leaves by the public network. Open the registry, or delete the "+
				"deployments and give the workspace a managed network", "az acr update -n "+textAt(v, "name")+" --public-network-enabled true")
			return true
		}
	}
	l, err := e.w.m.list(ctx, id+"/privateEndpointConnections", registryVersion)
	if err != nil {
		e.failed("registry", err)
		return true
	}
	for _, pec := range l {
		st := at(pec, "properties", "privateLinkServiceConnectionState")
		if !strings.EqualFold(textAt(st, "status"), "Approved") && strings.HasPrefix(textAt(st, "description"), "Egress for Microsoft.MachineLearningServices") {
			e.say("registry", stepWrong, "the private endpoint connection "+textAt(pec, "name")+" is "+textAt(st, "status"),
				"az network private-endpoint-connection approve --id "+textAt(pec, "id"))
			return true
		}
	}
	e.say("registry", stepOK, textAt(v, "name")+" lets the deployments in")
	return true
}

// scoringHost is the name that is scored at.
func (e *examination) scoringHost() string {
	u, err := url.Parse(textAt(e.endpoint, "properties", "scoringUri"))
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (e *examination) isPrivate() bool {
	return strings.EqualFold(textAt(e.endpoint, "properties", "publicNetworkAccess"), "Disabled")
}

const mlZone = "privatelink.api.azureml.ms"

// privateName: a private endpoint of the workspace, and its name in a zone that
// is linked to the network.
func (e *examination) privateName(ctx context.Context) bool {
	if e.endpoint == nil {
		return false
	}
	if !e.isPrivate() {
		e.say("private endpoint", stepOK, "not needed: the endpoint is reached over the public network too")
		return true
	}
	var ready []string
	for _, pec := range items(at(e.ws, "properties", "privateEndpointConnections")) {
		if strings.Contains(strings.ToLower(textAt(pec, "properties", "privateEndpoint", "id")), "/outboundrules/") {
			continue // of its own managed network: for what runs in it
		}
		st := textAt(pec, "properties", "privateLinkServiceConnectionState", "status")
		if strings.EqualFold(st, "Approved") {
			ready = append(ready, textAt(pec, "name"))
		} else {
			e.say("private endpoint", stepNotice, "the connection "+textAt(pec, "name")+" is "+st, "az network private-endpoint-connection approve --id "+textAt(pec, "id"))
		}
	}
	if len(ready) == 0 {
		e.say("private endpoint", stepWrong, "the endpoint has no public access, and the workspace no approved private endpoint: nobody can reach it",
			"az network private-endpoint create -g "+e.w.c.text("resource-group")+" -n ws-pe --vnet-name VNET --subnet SUBNET --private-connection-resource-id "+e.w.path+" --group-id amlworkspace --connection-name ws-conn")
		return true
	}
	e.say("private endpoint", stepOK, fmt.Sprintf("the workspace has %d approved", len(ready)))
	e.zones(ctx)
	return true
}

// zones looks for the inference record.
func (e *examination) zones(ctx context.Context) {
	zones, err := e.w.m.list(ctx, e.w.m.listPath("", zoneType), privateDNSVersion)
	if err != nil {
		e.failed("names", err)
		return
	}
	guid := strings.ToLower(textAt(e.ws, "properties", "workspaceId"))
	found, linked := false, 0
	for _, z := range zones {
		if !strings.EqualFold(textAt(z, "name"), mlZone) {
			continue
		}
		records, err := e.w.m.list(ctx, textAt(z, "id")+"/ALL", privateDNSVersion)
		if err != nil {
			e.failed("names", err)
			return
		}
		if slices.ContainsFunc(records, func(r any) bool {
			n := strings.ToLower(textAt(r, "name"))
			return strings.HasPrefix(n, "*.") && strings.Contains(n, ".inference.") && strings.Contains(n, guid)
		}) {
			found = true
			links, err := e.w.m.list(ctx, textAt(z, "id")+"/virtualNetworkLinks", privateDNSVersion)
			if err != nil {
				e.failed("names", err)
				return
			}
			linked += len(links)
		}
	}
	switch {
	case !found:
		e.say("names", stepWrong, "no zone "+mlZone+" has a record *."+guid+".inference.REGION: delete the workspace's private endpoint and create it again, with a zone group",
			"az network private-endpoint dns-zone-group create -g "+e.w.c.text("resource-group")+" --endpoint-name ws-pe --name zg --private-dns-zone "+mlZone+" --zone-name aml")
	case linked == 0:
		e.say("names", stepWrong, "the zone "+mlZone+" is linked to no virtual network",
			"az network private-dns link vnet create -g "+e.w.c.text("resource-group")+" --zone-name "+mlZone+" -n link --virtual-network VNET --registration-enabled false")
	default:
		e.say("names", stepOK, "the zone "+mlZone+" has the inference record and is linked")
	}
}

// deployed: every deployment succeeded.
func (e *examination) deployed(context.Context) bool {
	if len(e.deployments) == 0 {
		e.say("deployments", stepWrong, "there is none", "az ml online-deployment create "+e.flags()+" -e "+e.name+" -n blue -f blue-deployment.yml --all-traffic")
		return true
	}
	var good []string
	for _, d := range e.deployments {
		name := textAt(d, "name")
		logs := "az ml online-deployment get-logs " + e.flags() + " -e " + e.name + " -n " + name
		switch s := textAt(d, "properties", "provisioningState"); strings.ToLower(s) {
		case "succeeded":
			if at(d, "properties", "scaledToZero") == true {
				name += " (scaled to zero: the next request starts it)"
			}
			good = append(good, name)
		case "creating", "updating", "scaling":
			e.say("deployments", stepNotice, name+" is "+s+": its rollout goes on, look again when it has ended", logs)
		default:
			e.say("deployments", stepWrong, name+" is "+s, logs)
		}
	}
	if len(good) == len(e.deployments) {
		e.say("deployments", stepOK, strings.Join(good, ", ")+": Succeeded")
	}
	return true
}

// traffic: it goes somewhere.
func (e *examination) traffic(context.Context) bool {
	var shares []string
	traffic := objectOr(at(e.endpoint, "properties", "traffic"))
	for _, name := range deploymentNames(e.deployments) {
		n := scalar(firstNonNil(traffic[strings.ToLower(name)], traffic[name], "0"), "0", "", "")
		if n != "0" {
			shares = append(shares, name+"="+n)
		}
	}
	if len(shares) == 0 && len(e.deployments) > 0 {
		name := deploymentNames(e.deployments)[0]
		e.say("traffic", stepWrong, "no deployment has any: only requests with the header azureml-model-deployment are answered",
			"az ml online-endpoint update "+e.flags()+" -n "+e.name+" --traffic "+name+"=100")
		return true
	}
	if len(shares) > 0 {
		e.say("traffic", stepOK, strings.Join(shares, ", "))
	}
	return true
}

func (e *examination) credentials(ctx context.Context) bool {
	mode := authModes().from(textAt(e.endpoint, "properties", "authMode"))
	if _, err := e.w.credentials(ctx, e.endpoint); err != nil {
		e.failed("credentials", err)
		return true
	}
	e.say("credentials", stepOK, fmt.Sprintf("auth_mode is %s, and you get them", mode))
	return true
}

// reach: the name leads here, to an address of the network where it must.
func (e *examination) reach(ctx context.Context) bool {
	host := e.scoringHost()
	if host == "" {
		e.say("reach", stepWrong, "the endpoint has no scoring URI")
		return true
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	inside := err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap().IsPrivate() })
	const command = "laz run --network VNET -- laz doctor endpoint "
	if e.isPrivate() && !inside {
		e.say("reach", stepNotice, host+" leads to no address of a network from here, where it is refused: look from inside one that has the private endpoint", command+e.name+" "+e.flags())
		return true
	}
	a, err := e.w.m.s.send(ctx, request{method: http.MethodGet, url: "https://" + host + "/"})
	switch {
	case err != nil:
		e.failed("reach", err)
	case a.status == http.StatusForbidden:
		e.say("reach", stepWrong, host+" answers and refuses this network: "+strings.TrimSpace(string(a.body)))
	default:
		text := host + " answers"
		if inside {
			text += " at " + addrs[0].Unmap().String()
		}
		e.say("reach", stepOK, text)
	}
	return true
}

// logs: what the deployments' logs complain of.
func (e *examination) logs(ctx context.Context) bool {
	for _, d := range e.deployments {
		name := textAt(d, "name")
		a, err := e.w.m.do(ctx, http.MethodPost, e.w.deployment(e.name, name)+"/getLogs", mlVersion, object{"containerType": "InferenceServer", "tail": 200})
		if err != nil {
			e.failed("log of "+name, err)
			continue
		}
		v, err := decode(a.body)
		if err != nil {
			e.failed("log of "+name, err)
			continue
		}
		if line := complaint(textAt(v, "content")); line != "" {
			e.say("log of "+name, stepNotice, printable(line), "az ml online-deployment get-logs "+e.flags()+" -e "+e.name+" -n "+name)
			continue
		}
		e.say("log of "+name, stepOK, "no error in its last 200 lines")
	}
	return true
}

// complaint is the last line of a log that tells of an error.
func complaint(log string) string {
	found := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, " E [") || strings.Contains(line, "Error") || strings.Contains(line, "Exception") {
			found = strings.TrimSpace(line)
		}
	}
	return found
}

// doctorText shows the findings as `laz doctor` does, and the first that fails.
func doctorText(c *call, v any) string {
	l := lookOf(c.env, c.env.Stdout)
	var b strings.Builder
	width := 0
	for _, f := range items(at(v, "findings")) {
		width = max(width, len(textAt(f, "about")))
	}
	b.WriteString("\n")
	for _, f := range items(at(v, "findings")) {
		mark := map[string]string{stepOK: "ok  ", stepNotice: "note", stepWrong: "no  "}[textAt(f, "result")]
		if l.terminal {
			mark = map[string]string{stepOK: l.green("✓"), stepNotice: l.paint("33", "!"), stepWrong: l.red("✗")}[textAt(f, "result")]
		}
		indent := strings.Repeat(" ", width+len("  note   "))
		if l.terminal {
			indent = indent[3:]
		}
		for i, line := range wrap(textAt(f, "text"), l.room(len(indent))) {
			if i == 0 {
				fmt.Fprintf(&b, "  %s %-*s  %s\n", mark, width, textAt(f, "about"), line)
			} else {
				b.WriteString(indent + line + "\n")
			}
		}
		if fix := textAt(f, "fix"); fix != "" {
			b.WriteString(indent + l.bold(fix) + "\n")
		}
	}
	if first := at(v, "first"); first != nil {
		fmt.Fprintf(&b, "\n  %s\n\n", l.red("The first step that fails: "+textAt(first, "about")+": "+textAt(first, "text")))
	} else {
		fmt.Fprintf(&b, "\n  %s\n\n", l.green("No step fails."))
	}
	return b.String()
}
