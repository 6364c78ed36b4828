package compute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/cluster"
)

// Labels of pods.
const (
	labelDeployment = "lazurite.dev/deployment" // UID
	labelEndpoint   = "lazurite.dev/endpoint"   // UID
	labelRevision   = "lazurite.dev/revision"   // of the pod's template
	noteName        = "lazurite.dev/name"       // annotation: ENDPOINT/DEPLOYMENT
)

const (
	defaultPort    = 5001
	defaultTimeout = 5 * time.Second
	trustFolder    = "/etc/lazurite/trust"
	trustFile      = trustFolder + "/ca-certificates.crt"

	// DownloadsVariable holds the storage initializer's Downloads as JSON.
	DownloadsVariable = "LAZURITE_DOWNLOADS"

	// InitializerCommand is this program's command in that container.
	InitializerCommand = StorageInitializer
)

var (
	uidForm  = pattern(`^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$`)
	envForm  = pattern(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`) // Kubernetes, "Define environment variables"
	pathForm = pattern(`^(/[^/\x00-\x1f:]+)+$`)
)

// pattern compiles text when it is first needed.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// site is what a workspace's cluster is to a pod.
type site struct {
	door     netip.Addr // the front door: resolver, identity endpoint
	program  string     // image of this program
	archive  string     // mark of the archive of the deployment's image; "" is none
	trust    []byte     // PEM
	secret   string     // of the identity endpoint; "" is none
	deadline time.Duration
	diskMiB  int // that one instance gets at most; 0 is as much as it likes
}

// check refuses what can't be run.
func (d Deployment) check() error {
	bad := func(format string, args ...any) error {
		return &Failure{Code: CodeBad, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !uidForm().MatchString(d.UID) || !uidForm().MatchString(d.EndpointUID) || !uidForm().MatchString(d.WorkspaceUID):
		return fmt.Errorf("deployment %s: %q, %q and %q are not all uids", d.Name, d.UID, d.EndpointUID, d.WorkspaceUID)
	case d.Image == "":
		return bad("The deployment's environment has no image.")
	case d.Instances < 1:
		return bad("A deployment has at least one instance.")
	case d.CPUMillis < 1 || d.MemoryMiB < 1 || d.DiskMiB < 0:
		return fmt.Errorf("deployment %s: an instance with %d thousandths of a processor, %d MiB of memory and %d MiB of disk", d.Name, d.CPUMillis, d.MemoryMiB, d.DiskMiB)
	case d.Port < 0 || d.Port > 65535:
		return bad("%d is no port.", d.Port)
	case len(d.Downloads) > 0 && len(d.Identities) == 0:
		return bad("Without an identity neither code nor model can be read from the storage account.")
	}
	for name := range d.Env {
		if !envForm().MatchString(name) {
			return bad("%q can't be the name of an environment variable.", name)
		}
	}
	for _, f := range d.Folders {
		if !mountable(f) {
			return bad("Nothing can be mounted at %q.", f)
		}
	}
	for _, one := range d.Downloads {
		own := slices.ContainsFunc(append([]string{AppRoot}, d.Folders...), func(f string) bool { return inside(one.Path, f) })
		if !own || !pathForm().MatchString(one.Path) || path.Clean(one.Path) != one.Path {
			return bad("%q is no path where code or a model can be put.", one.Path)
		}
	}
	return nil
}

// mountable reports whether a folder of the pod's own may be at p: a path that
// hides nothing which images or Kubernetes need.
func mountable(p string) bool {
	if !pathForm().MatchString(p) || path.Clean(p) != p || inside(p, AppRoot) || inside(AppRoot, p) {
		return false
	}
	top := "/" + strings.Split(p, "/")[1]
	return !slices.Contains([]string{"/proc", "/sys", "/dev", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/usr"}, top)
}

func (d Deployment) namespace() string { return "ep-" + d.EndpointUID }

func (d Deployment) port() int {
	if d.Port == 0 {
		return defaultPort
	}
	return d.Port
}

func (d Deployment) timeout() time.Duration {
	if d.Timeout == 0 {
		return defaultTimeout
	}
	return d.Timeout
}

func (d Deployment) display() string { return d.Endpoint + "/" + d.Name }

// objects are all of Kubernetes' that the deployment is, in the order in which
// they are made; the last one is the Deployment.
func objects(d Deployment, s site) (list []cluster.Object, revision string, err error) {
	template, err := d.template(s)
	if err != nil {
		return nil, "", err
	}
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(raw)
	revision = hex.EncodeToString(sum[:8])
	meta := template["metadata"].(map[string]any)
	meta["labels"].(map[string]any)[labelRevision] = revision
	ns := d.namespace()
	list = []cluster.Object{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns, "labels": map[string]any{
			labelEndpoint: d.EndpointUID, "pod-security.kubernetes.io/enforce": "baseline",
		}}},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "trust", "namespace": ns},
			"data": map[string]any{path.Base(trustFile): string(s.trust)}},
	}
	if s.secret != "" {
		list = append(list, cluster.Object{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": d.UID, "namespace": ns},
			"type": "Opaque", "stringData": map[string]any{"secret": s.secret}})
	}
	deadline := d.Deadline
	if deadline == 0 {
		deadline = s.deadline
	}
	return append(list, cluster.Object{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": d.UID, "namespace": ns, "labels": map[string]any{labelDeployment: d.UID}},
		"spec": map[string]any{
			"replicas": d.Instances, "revisionHistoryLimit": 1, "progressDeadlineSeconds": seconds(deadline),
			// Nothing is lost: the new ones come first. A fifth more is what Azure keeps for that.
			"strategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": 0, "maxSurge": max(1, d.Instances/5)}},
			"selector": map[string]any{"matchLabels": map[string]any{labelDeployment: d.UID}},
			"template": template,
		},
	}), revision, nil
}

// template is the pod's.
func (d Deployment) template(s site) (map[string]any, error) {
	drain := seconds(d.timeout()) + 1
	volumes, mounts := d.volumes(s)
	spec := map[string]any{
		"automountServiceAccountToken": false, "enableServiceLinks": false, "restartPolicy": "Always",
		"dnsPolicy": "None", "dnsConfig": map[string]any{"nameservers": []any{s.door.String()},
			"options": []any{map[string]any{"name": "ndots", "value": "1"}, map[string]any{"name": "timeout", "value": "2"}}},
		"terminationGracePeriodSeconds": drain + 10,
		"securityContext":               map[string]any{"seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"volumes":                       volumes,
		"containers": []any{map[string]any{
			"name": InferenceServer, "image": d.Image, "imagePullPolicy": "IfNotPresent", "env": d.env(s), "volumeMounts": mounts,
			"ports":         []any{map[string]any{"containerPort": d.port(), "protocol": "TCP"}},
			"resources":     d.resources(s.diskMiB),
			"startupProbe":  d.startup(),
			"livenessProbe": d.probe(d.Liveness, d.Routes.Liveness, 1), // Kubernetes knows no other number

			"readinessProbe": d.probe(d.Readiness, d.Routes.Readiness, d.Readiness.orElse().Success),
			// An instance that goes away answers what it has: the server hears of its end
			// when nothing can be left.
			"lifecycle":                map[string]any{"preStop": map[string]any{"sleep": map[string]any{"seconds": drain}}},
			"terminationMessagePolicy": "File",
			// What images that start as root need to become somebody else, and no more.
			"securityContext": confined("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL"),
		}},
	}
	if len(d.Command) > 0 {
		spec["containers"].([]any)[0].(map[string]any)["command"] = texts(d.Command)
	}
	if len(d.Downloads) > 0 {
		init, err := d.initializer(s, mounts)
		if err != nil {
			return nil, err
		}
		spec["initContainers"] = []any{init}
	}
	notes := map[string]any{noteName: d.display()}
	if s.archive != "" {
		notes["lazurite.dev/image"] = s.archive // other content under the same name is another revision
	}
	return map[string]any{
		"metadata": map[string]any{"labels": map[string]any{labelDeployment: d.UID, labelEndpoint: d.EndpointUID}, "annotations": notes},
		"spec":     spec,
	}, nil
}

// initializer is the container that downloads.
func (d Deployment) initializer(s site, mounts []any) (map[string]any, error) {
	raw, err := json.Marshal(d.Downloads)
	if err != nil {
		return nil, err
	}
	env := append(d.identity(s), variable("SSL_CERT_FILE", trustFile), variable(DownloadsVariable, string(raw)))
	security := confined()
	security["readOnlyRootFilesystem"], security["runAsNonRoot"] = true, true
	return map[string]any{
		"name": StorageInitializer, "image": s.program, "imagePullPolicy": "Never", "args": []any{InitializerCommand}, "env": env, "volumeMounts": mounts,
		"resources": map[string]any{
			"limits":   map[string]any{"cpu": "2", "memory": "512Mi"},
			"requests": map[string]any{"cpu": "20m", "memory": "32Mi"},
		},
		"securityContext": security,
	}, nil
}

// confined is what a container may do: nothing but the capabilities.
func confined(capabilities ...string) map[string]any {
	caps := map[string]any{"drop": []any{"ALL"}}
	if len(capabilities) > 0 {
		caps["add"] = texts(capabilities)
	}
	return map[string]any{"allowPrivilegeEscalation": false, "privileged": false, "capabilities": caps}
}

// volumes are folders for what is downloaded, and what is trusted.
func (d Deployment) volumes(s site) (volumes, mounts []any) {
	folder := map[string]any{}
	if most := d.disk(s.diskMiB); most > 0 {
		folder["sizeLimit"] = fmt.Sprintf("%dMi", most)
	}
	for i, f := range append([]string{AppRoot}, d.Folders...) {
		name := fmt.Sprintf("data%d", i)
		volumes = append(volumes, map[string]any{"name": name, "emptyDir": folder})
		mounts = append(mounts, map[string]any{"name": name, "mountPath": f})
	}
	volumes = append(volumes, map[string]any{"name": "trust", "configMap": map[string]any{"name": "trust"}})
	mounts = append(mounts, map[string]any{"name": "trust", "mountPath": trustFolder, "readOnly": true})
	return volumes, mounts
}

func inside(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// identity is where a pod gets tokens: in the words of App Service, which
// clients look for first, and in those of Azure Machine Learning.
func (d Deployment) identity(s site) []any {
	if s.secret == "" {
		return nil
	}
	endpoint := "http://" + s.door.String() + "/msi/token"
	secret := func(name string) any {
		return map[string]any{"name": name, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": d.UID, "key": "secret"}}}
	}
	return []any{variable("IDENTITY_ENDPOINT", endpoint), secret("IDENTITY_HEADER"), variable("MSI_ENDPOINT", endpoint), secret("MSI_SECRET")}
}

// env is the server's environment: the deployment's own, and ours where that
// has none.
func (d Deployment) env(s site) []any {
	var out []any
	for _, name := range slices.Sorted(maps.Keys(d.Env)) {
		// Kubernetes would replace $(NAME) in a value.
		out = append(out, variable(name, strings.ReplaceAll(d.Env[name], "$(", "$$(")))
	}
	ours := append(d.identity(s), variable("SERVICE_NAME", d.Name))
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"} {
		ours = append(ours, variable(name, trustFile))
	}
	for _, v := range ours {
		if _, taken := d.Env[v.(map[string]any)["name"].(string)]; !taken {
			out = append(out, v)
		}
	}
	return out
}

func variable(name, value string) any { return map[string]any{"name": name, "value": value} }

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// orElse fills the zeros of a probe with Azure's defaults.
func (p Probe) orElse() Probe {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&p.InitialDelay, 10*time.Second)
	def(&p.Period, 10*time.Second)
	def(&p.Timeout, 2*time.Second)
	if p.Success <= 0 {
		p.Success = 1
	}
	if p.Failure <= 0 {
		p.Failure = 30
	}
	return p
}

func (d Deployment) get(r Route) map[string]any {
	if r.Path == "" {
		r.Path = "/"
	}
	if r.Port == 0 {
		r.Port = d.port()
	}
	return map[string]any{"path": r.Path, "port": r.Port, "scheme": "HTTP"}
}

// startup asks every second until the server answers, so long as the liveness
// probe would leave it: no instance waits for a delay that it did not need.
func (d Deployment) startup() map[string]any {
	p := d.Liveness.orElse()
	return map[string]any{"httpGet": d.get(d.Routes.Liveness), "periodSeconds": 1, "timeoutSeconds": seconds(p.Timeout),
		"failureThreshold": max(1, seconds(p.InitialDelay)+p.Failure*seconds(p.Period))}
}

func (d Deployment) probe(p Probe, r Route, success int) map[string]any {
	p = p.orElse()
	return map[string]any{"httpGet": d.get(r), "periodSeconds": seconds(p.Period), "timeoutSeconds": seconds(p.Timeout),
		"successThreshold": success, "failureThreshold": p.Failure}
}

func seconds(d time.Duration) int { return int(max((d+time.Second-1)/time.Second, 1)) }
