package compute

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func whole() Deployment {
	return Deployment{
		UID: "d1", Name: "blue", Endpoint: "ep", EndpointUID: "e1", WorkspaceUID: "w1", Image: "x:1", CPUMillis: 4000, MemoryMiB: 14336, DiskMiB: 28 << 10, Instances: 10, Timeout: 4500 * time.Millisecond,
		Env: map[string]string{"A": "$(B)", "MSI_ENDPOINT": "http://own"}, Identities: []string{"/x"}, Downloads: []Download{{URL: "https://a/c/m", Path: ModelRoot + "/m/1"}},
	}
}

func TestObjects_WhatPodsMay(t *testing.T) {
	s := site{door: netip.MustParseAddr("198.18.3.2"), program: "laz:1", secret: "s3cret", trust: []byte("PEM"), deadline: time.Minute}
	list, revision, err := objects(whole(), s)
	if err != nil {
		t.Fatal(err)
	}
	d := list[len(list)-1]
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"automountServiceAccountToken":false`, `"enableServiceLinks":false`, `"dnsPolicy":"None"`, `"nameservers":["198.18.3.2"]`, `"seccompProfile":{"type":"RuntimeDefault"}`,
		`"allowPrivilegeEscalation":false`, `"drop":["ALL"]`, `"maxSurge":2`, `"maxUnavailable":0`, `"terminationGracePeriodSeconds":16`, `{"sleep":{"seconds":6}}`,
		`"memory":"14336Mi"`, `"memory":"896Mi"`, `"cpu":"4000m"`, `{"name":"A","value":"$$(B)"}`, `{"name":"MSI_ENDPOINT","value":"http://own"}`, `"lazurite.dev/revision":"` + revision + `"`,
		`{"name":"IDENTITY_ENDPOINT","value":"http://198.18.3.2/msi/token"}`, `"progressDeadlineSeconds":60`, `"failureThreshold":310`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
	for _, no := range []string{"s3cret", "hostPath", "hostNetwork", "hostPID", `"privileged":true`, "NET_RAW", "SYS_"} {
		if strings.Contains(string(raw), no) {
			t.Errorf("%s in %s", no, raw)
		}
	}
	_, same, _ := objects(whole(), s)
	other := whole()
	other.Env["A"] = "C"
	_, changed, _ := objects(other, s)
	scaled := whole()
	scaled.Instances = 3
	_, more, _ := objects(scaled, s)
	if same != revision || more != revision || changed == revision {
		t.Errorf("revisions %s %s %s %s", revision, same, more, changed)
	}
}

func TestCheck_Refusals(t *testing.T) {
	if err := whole().check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Deployment){
		"uid":               func(d *Deployment) { d.UID = "../x" },
		"endpoint":          func(d *Deployment) { d.EndpointUID = "E 1" },
		"no image":          func(d *Deployment) { d.Image = "" },
		"none":              func(d *Deployment) { d.Instances = 0 },
		"port":              func(d *Deployment) { d.Port = 70000 },
		"variable":          func(d *Deployment) { d.Env["A=B"] = "" },
		"path":              func(d *Deployment) { d.Downloads[0].Path = "/usr/bin/python3" },
		"path with ..":      func(d *Deployment) { d.Downloads[0].Path = AppRoot + "/../../etc" },
		"folder":            func(d *Deployment) { d.Folders = []string{"/etc/ssl"} },
		"root":              func(d *Deployment) { d.Folders = []string{"/"} },
		"folder above":      func(d *Deployment) { d.Folders = []string{"/var"} },
		"relative folder":   func(d *Deployment) { d.Folders = []string{"x"} },
		"no processor":      func(d *Deployment) { d.CPUMillis = 0 },
		"no memory":         func(d *Deployment) { d.MemoryMiB = 0 },
		"less than no disk": func(d *Deployment) { d.DiskMiB = -1 },
		"no identity":       func(d *Deployment) { d.Identities = nil },
	} {
		d := whole()
		change(&d)
		if err := d.check(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	d := whole()
	d.Folders, d.Downloads[0].Path = []string{"/mnt/models"}, "/mnt/models/m"
	if err := d.check(); err != nil {
		t.Errorf("a folder of its own: %v", err)
	}
}

// TestObjects_Disk: an instance writes no more than its type has, and no more
// than its share of the machine's disk.
func TestObjects_Disk(t *testing.T) {
	for _, c := range []struct {
		own, machine        int
		limit, kept, folder string
	}{
		{28 << 10, 0, "28672Mi", "1792Mi", "28672Mi"}, {28 << 10, 1 << 20, "28672Mi", "1792Mi", "28672Mi"},
		{28 << 10, 8 << 10, "8192Mi", "512Mi", "8192Mi"}, {0, 512, "512Mi", "64Mi", "512Mi"}, {32, 0, "32Mi", "32Mi", "32Mi"}, {0, 0, "", "", ""},
	} {
		d := whole()
		d.DiskMiB = c.own
		s := site{diskMiB: c.machine}
		template, err := d.template(s)
		if err != nil {
			t.Fatal(err)
		}
		got := decode[struct {
			Spec struct {
				Containers []struct {
					Resources struct{ Limits, Requests map[string]string }
				}
				Volumes []struct{ EmptyDir *struct{ SizeLimit string } }
			}
		}](t, string(must(json.Marshal(template)))).Spec
		r := got.Containers[0].Resources
		if r.Limits["ephemeral-storage"] != c.limit || r.Requests["ephemeral-storage"] != c.kept || got.Volumes[0].EmptyDir.SizeLimit != c.folder {
			t.Errorf("%d MiB of a machine's %d: got %v, folder %v", c.own, c.machine, r, got.Volumes[0].EmptyDir)
		}
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

// TestOfRevision_EvictedBefore: what was evicted before a rollout began does not
// make it fail.
func TestOfRevision_EvictedBefore(t *testing.T) {
	text := func(name, phase, at string) pod {
		return decode[pod](t, `{"metadata":{"name":"`+name+`","creationTimestamp":"`+at+`","labels":{"lazurite.dev/revision":"r"}},"status":{"phase":"`+phase+`","reason":"Evicted"}}`)
	}
	began := time.Date(2030, 1, 1, 12, 0, 0, 5e8, time.UTC)
	list := ofRevision([]pod{text("old", "Failed", "2030-01-01T11:59:59Z"), text("serves", "Running", "2030-01-01T11:00:00Z"), text("new", "Failed", "2030-01-01T12:00:00Z")}, "r", began)
	if len(list) != 2 || list[0].Metadata.Name != "serves" || list[1].Metadata.Name != "new" {
		t.Errorf("got %v", list)
	}
}

// How containers ended before it began is no failure of a start: after a restart
// of the machine they run again.
func TestOfRevision_EndsOfBefore(t *testing.T) {
	began := time.Date(2030, 1, 1, 0, 1, 0, 500, time.UTC)
	for name, c := range map[string]struct {
		status string
		fails  bool
	}{
		"killed twice, before":            {`{"containerStatuses":[{"name":"inference-server","restartCount":2,"state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"reason":"Error","finishedAt":"2030-01-01T00:00:59Z"}}}]}`, false},
		"killed twice, now":               {`{"containerStatuses":[{"name":"inference-server","restartCount":2,"state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"reason":"Error","finishedAt":"2030-01-01T00:01:00Z"}}}]}`, true},
		"out of memory, before":           {`{"containerStatuses":[{"name":"inference-server","restartCount":1,"state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled","finishedAt":"2030-01-01T00:00:00Z"}}}]}`, false},
		"not started again yet":           {`{"containerStatuses":[{"name":"inference-server","restartCount":4,"state":{"terminated":{"exitCode":143,"reason":"Error","finishedAt":"2030-01-01T00:00:00Z"}}}]}`, false},
		"again and again":                 {`{"containerStatuses":[{"name":"inference-server","restartCount":4,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":3,"reason":"Error","finishedAt":"2030-01-01T00:00:00Z"}}}]}`, true},
		"a download that failed, before":  {`{"initContainerStatuses":[{"name":"storage-initializer","restartCount":1,"state":{"running":{}},"lastState":{"terminated":{"exitCode":1,"finishedAt":"2030-01-01T00:00:00Z"}}}]}`, false},
		"a download that was done before": {`{"initContainerStatuses":[{"name":"storage-initializer","state":{"terminated":{"exitCode":0,"finishedAt":"2030-01-01T00:00:00Z"}}}],"containerStatuses":[{"name":"inference-server","state":{"terminated":{"exitCode":3,"finishedAt":"2030-01-01T00:02:00Z"}}}]}`, true},
	} {
		p := decode[pod](t, `{"metadata":{"name":"p","labels":{"`+labelRevision+`":"r"}},"status":`+c.status+`}`)
		got := ofRevision([]pod{p}, "r", began)
		if len(got) != 1 {
			t.Fatalf("%s: got %v", name, got)
		}
		if v := got[0].judge(began.Add(time.Minute)); (v.failure != nil) != c.fails {
			t.Errorf("%s: got %+v, %v", name, v, v.failure)
		}
	}
}

func TestInstance_OfPods(t *testing.T) {
	for text, want := range map[string]Instance{
		`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"inference-server","ports":[{"containerPort":8080}]}]},"status":{"podIP":"10.244.0.5","conditions":[{"type":"Ready","status":"True"}]}}`: {ID: "p", Cluster: "ml-w", Address: netip.MustParseAddrPort("10.244.0.5:8080"), Ready: true},
		`{"metadata":{"name":"p","deletionTimestamp":"2030-01-01T00:00:00Z"},"status":{"podIP":"10.244.0.5"}}`:                                                                                           {ID: "p", Cluster: "ml-w", Address: netip.MustParseAddrPort("10.244.0.5:5001"), Draining: true},
		`{"metadata":{"name":"p"},"status":{}}`:                                         {},
		`{"metadata":{"name":"p"},"status":{"podIP":"10.244.0.5","phase":"Failed"}}`:    {},
		`{"metadata":{"name":"p"},"status":{"podIP":"not an address","phase":"Alive"}}`: {},
	} {
		if got, ok := decode[pod](t, text).instance("ml-w"); got != want || ok != (want != Instance{}) {
			t.Errorf("%s: got %+v", text, got)
		}
	}
	if uid, ok := WorkspaceOf(ClusterUID("ABC")); uid != "abc" || !ok {
		t.Errorf("got %s", uid)
	}
	if _, ok := WorkspaceOf("0a0a"); ok {
		t.Error("another's cluster")
	}
}
