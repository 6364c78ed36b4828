package compute

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
)

// Build is a program that makes something: it runs once in a pod of its own,
// without an identity and without privileges, and reaches what the workspace's
// network allows.
type Build struct {
	Workspace    rid.ID
	WorkspaceUID string // GUID in lower case
	Location     string
	For          string // what it is for, "ENDPOINT/DEPLOYMENT", for who reads of it

	Image, Archive string // as a Deployment's
	Command        []string
	Files          map[string][]byte // in BuildFolder; larger ones than a ConfigMap takes come in parts, NAME.000 and so on
	Most           int64             // bytes that it may hand out
}

// BuildFolder has a Build's files, and trust.pem with what pods trust; BuildPort
// is where it is asked for what it made, by GET /.
const (
	BuildFolder = "/build/in"
	BuildPort   = 5001
)

// What a build may use. It runs beside instances, so that little is kept for it.
const (
	buildCPUMillis = 2000
	buildMemoryMiB = 2048
	buildDiskMiB   = 10 << 10
	buildTime      = 15 * time.Minute
	buildLogLines  = 500
	buildUnseen    = 30 * time.Second // for so long the API server may not answer
	buildUser      = 65532

	buildNamespace = "builds"
	buildContainer = "build"
	buildWork      = "/build/work"
	maxMapBytes    = 700 << 10 // of a ConfigMap, which has a mebibyte (Kubernetes, "ConfigMaps")
)

// BuildReport is what is known of a build that ran.
type BuildReport struct {
	Log     string     // its end
	Address netip.Addr // of its pod, where it had one
	Began   time.Time
}

// Build runs b in the computes of its workspace, which are made where there are
// none, writes what it hands out to out, and takes its pod away. A *Failure says
// that the build itself failed. One runs at a time in a workspace.
func (c *Compute) Build(ctx context.Context, b Build, out io.Writer, tell func(string)) (report BuildReport, err error) {
	if err := c.Available(ctx); err != nil {
		return report, &Failure{Code: CodeNoSupport, Message: "Builds can't run here: " + err.Error()}
	}
	give, err := c.take(ctx, "build "+b.WorkspaceUID)
	if err != nil {
		return report, err
	}
	defer give()
	w := Workspace{UID: b.WorkspaceUID, Name: b.Workspace.Name(), Location: b.Location, ID: b.Workspace}
	if err := c.Network(ctx, w, tell); err != nil {
		return report, err
	}
	ctx, cancel := context.WithTimeout(ctx, buildTime+saveTime)
	defer cancel()
	report.Began = time.Now()
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	name := "build-" + hex.EncodeToString(raw)
	ended := c.begun(name)
	defer ended()
	k, objects, err := c.buildObjects(ctx, b, name)
	if err != nil {
		return report, err
	}
	defer func() { // what was made is good, whatever becomes of what it was made of
		ended()
		c.sweep(ctx, k, b.WorkspaceUID)
	}()
	if err := k.ApplyAll(ctx, objects); err != nil {
		return report, fmt.Errorf("start a build: %w", err)
	}
	at, failed, err := c.awaitBuild(ctx, k, b, name)
	report.Address = at
	report.Log = lastLog(context.WithoutCancel(ctx), k, buildNamespace, name, buildContainer, buildLogLines)
	if err != nil {
		return report, err
	}
	if failed != nil {
		return report, failed
	}
	return report, c.collectBuild(ctx, b, at, out)
}

// buildObjects are what a build is made of in Kubernetes, the pod last.
func (c *Compute) buildObjects(ctx context.Context, b Build, name string) (*cluster.KubeAPI, []cluster.Object, error) {
	archive := ""
	if b.Archive != "" {
		var err error
		if archive, err = c.loadArchive(ctx, b.WorkspaceUID, b.Archive); err != nil {
			return nil, nil, err
		}
	}
	trust, err := c.cfg.Trust()
	if err != nil {
		return nil, nil, fmt.Errorf("what pods trust: %w", err)
	}
	k, door, err := c.kube(ctx, b.WorkspaceUID)
	if err != nil {
		return nil, nil, err
	}
	files := maps.Clone(b.Files)
	if files == nil {
		files = map[string][]byte{}
	}
	files["trust.pem"] = trust
	list := []cluster.Object{{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": buildNamespace, "labels": map[string]any{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}}}
	var sources []any
	for i, content := range portions(files) {
		one := fmt.Sprintf("%s-%d", name, i)
		list = append(list, cluster.Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": one, "namespace": buildNamespace, "labels": map[string]any{labelBuild: name}}, "binaryData": content})
		sources = append(sources, map[string]any{"configMap": map[string]any{"name": one}})
	}
	notes := map[string]any{noteName: b.For}
	if archive != "" {
		notes["lazurite.dev/image"] = archive
	}
	return k, append(list, cluster.Object{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": buildNamespace, "labels": map[string]any{labelBuild: name}, "annotations": notes},
		"spec": b.podSpec(door, sources, min(buildDiskMiB, cmp.Or(c.cfg.DiskMiB/diskShare, buildDiskMiB))),
	}), nil
}

// labelBuild has the name of a build's pod.
const labelBuild = "lazurite.dev/build"

// podSpec is the build's pod: nobody in particular, who may write into one
// folder, ends with its time, and is not started again.
func (b Build) podSpec(door netip.Addr, sources []any, diskMiB int) map[string]any {
	security := confined()
	security["readOnlyRootFilesystem"] = true
	size := Deployment{CPUMillis: buildCPUMillis, MemoryMiB: buildMemoryMiB, DiskMiB: diskMiB}
	return map[string]any{
		"automountServiceAccountToken": false, "enableServiceLinks": false, "restartPolicy": "Never",
		"activeDeadlineSeconds": seconds(buildTime), "terminationGracePeriodSeconds": 1,
		"dnsPolicy": "None", "dnsConfig": map[string]any{"nameservers": []any{door.String()},
			"options": []any{map[string]any{"name": "ndots", "value": "1"}, map[string]any{"name": "timeout", "value": "2"}}},
		"securityContext": map[string]any{"seccompProfile": map[string]any{"type": "RuntimeDefault"}, "runAsNonRoot": true, "runAsUser": buildUser, "runAsGroup": buildUser, "fsGroup": buildUser},
		"volumes": []any{
			map[string]any{"name": "in", "projected": map[string]any{"sources": sources}},
			map[string]any{"name": "work", "emptyDir": map[string]any{"sizeLimit": fmt.Sprintf("%dMi", diskMiB)}},
		},
		"containers": []any{map[string]any{
			"name": buildContainer, "image": b.Image, "imagePullPolicy": "IfNotPresent", "command": texts(b.Command), "workingDir": buildWork,
			"volumeMounts": []any{
				map[string]any{"name": "in", "mountPath": BuildFolder, "readOnly": true}, map[string]any{"name": "work", "mountPath": buildWork},
			},
			"env":             []any{variable("HOME", buildWork), variable("TMPDIR", buildWork)},
			"ports":           []any{map[string]any{"containerPort": BuildPort, "protocol": "TCP"}},
			"resources":       size.resources(diskMiB),
			"readinessProbe":  map[string]any{"tcpSocket": map[string]any{"port": BuildPort}, "periodSeconds": 1, "failureThreshold": 1},
			"securityContext": security,
		}},
	}
}

// portions are files as the binary data of ConfigMaps, each as large as it may be.
func portions(files map[string][]byte) []map[string]any {
	var out []map[string]any
	room := 0
	add := func(name string, content []byte) {
		if len(out) == 0 || len(content) > room {
			out, room = append(out, map[string]any{}), maxMapBytes
		}
		out[len(out)-1][name] = base64.StdEncoding.EncodeToString(content)
		room -= len(content)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if len(content) <= maxMapBytes {
			add(name, content)
			continue
		}
		part := 0
		for chunk := range slices.Chunk(content, maxMapBytes) {
			add(fmt.Sprintf("%s.%03d", name, part), chunk)
			part++
		}
	}
	return out
}

// awaitBuild waits until a build has something to hand out, or won't.
func (c *Compute) awaitBuild(ctx context.Context, k *cluster.KubeAPI, b Build, name string) (at netip.Addr, failed *Failure, err error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	defer c.namedBuild(b.WorkspaceUID, name, netip.Addr{}, "")
	for seen := time.Now(); ; {
		var p pod
		err := k.Get(ctx, "/api/v1/namespaces/"+buildNamespace+"/pods/"+name, &p)
		if gone, is := errors.AsType[*cluster.KubeError](err); err != nil && (is && gone.Code == http.StatusNotFound || ctx.Err() != nil || time.Since(seen) > buildUnseen) {
			return at, nil, fmt.Errorf("look at a build: %w", err)
		}
		if err == nil {
			seen = time.Now()
		}
		if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && a != at {
			at = a
			c.namedBuild(b.WorkspaceUID, name, at, b.For+" (environment)")
		}
		if p.condition("Ready").Status == "True" {
			return at, nil, nil
		}
		if failed = p.buildFailed(time.Now()); failed != nil {
			return at, failed, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return at, nil, ctx.Err()
		}
	}
}

// buildFailed says why a build's pod comes to nothing; nil while it may.
func (p pod) buildFailed(now time.Time) *Failure {
	fail := func(code, format string, args ...any) *Failure {
		return &Failure{Code: code, Message: fmt.Sprintf(format, args...)}
	}
	s, _ := p.status(buildContainer)
	e := s.ended()
	switch {
	case e != nil && e.Reason == "OOMKilled":
		return fail(CodeImage, "the build needed more than its %d MiB of memory", buildMemoryMiB)
	case p.Status.Reason == "DeadlineExceeded":
		return fail(CodeImage, "the build took longer than %s", buildTime)
	case p.Status.Reason == "Evicted":
		return fail(CodeImage, "the build was evicted: %s", p.Status.Message)
	case e != nil && (e.Reason == "StartError" || e.Reason == "ContainerCannotRun"):
		return fail(CodeImage, "the image %s can't run the build: %s", s.Image, e.Message)
	case e != nil:
		return fail(CodeImage, "the build ended with exit code %d", e.ExitCode)
	case p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded":
		return fail(CodeImage, "the build ended: %s %s", p.Status.Reason, p.Status.Message)
	}
	if scheduled := p.condition("PodScheduled"); scheduled.Status == "False" && scheduled.Reason == "Unschedulable" {
		if text := noRoom(scheduled.Message); text != "" && now.Sub(scheduled.LastTransitionTime) > unschedulable {
			return fail(CodeQuota, "%s", text)
		}
	}
	switch reason, message := s.waiting(); reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return fail(CodeImage, "the image %s can't run the build: %s", s.Image, pullReason(message))
	}
	return nil
}

// collectBuild takes what a build made.
func (c *Compute) collectBuild(ctx context.Context, b Build, at netip.Addr, out io.Writer) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.cfg.Agent.DialPod(ctx, ClusterUID(b.WorkspaceUID), netip.AddrPortFrom(at, BuildPort))
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://build/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("take what a build made: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return &Failure{Code: CodeImage, Message: fmt.Sprintf("the build hands out nothing: %s", resp.Status)}
	}
	n, err := io.Copy(out, io.LimitReader(resp.Body, b.Most+1))
	if err != nil {
		return fmt.Errorf("take what a build made: %w", err)
	}
	if n > b.Most {
		return &Failure{Code: CodeImage, Message: fmt.Sprintf("the build made more than %d bytes", b.Most)}
	}
	return nil
}

// begun notes that a build of that name runs, until ended is called.
func (c *Compute) begun(name string) (ended func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.building[name] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.building, name)
	}
}

func (c *Compute) runs(build string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.building[build]
}

// sweep takes away what no running build owns in a workspace: what a build was
// made of that came to its end, and what a server left that was ended in the
// middle. What it can't take away is tried again after the next build, and when
// the server starts.
func (c *Compute) sweep(ctx context.Context, k *cluster.KubeAPI, workspaceUID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	var errs []error
	for _, kind := range []string{"pods", "configmaps"} {
		path := "/api/v1/namespaces/" + buildNamespace + "/" + kind
		var list struct{ Items []pod }
		if err := k.Get(ctx, path+"?labelSelector="+labelBuild, &list); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, p := range list.Items {
			if !c.runs(p.Metadata.Labels[labelBuild]) {
				errs = append(errs, k.Delete(ctx, path+"/"+p.Metadata.Name))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		c.cfg.Log.Warn("what builds were made of is not gone yet", slog.String("workspace", workspaceUID), slog.String("error", err.Error()))
	}
}

// namedBuild lets Who know the pod of a build; "" ends that.
func (c *Compute) namedBuild(workspaceUID, pod string, at netip.Addr, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, n := range c.builds[workspaceUID] {
		if what == "" && strings.HasSuffix(n, " (pod "+pod+")") {
			delete(c.builds[workspaceUID], a)
		}
	}
	if what == "" {
		return
	}
	if c.builds[workspaceUID] == nil {
		c.builds[workspaceUID] = map[netip.Addr]string{}
	}
	c.builds[workspaceUID][at] = fmt.Sprintf("%s (pod %s)", what, pod)
}
