package compute

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBuild_WhatItsPodMay(t *testing.T) {
	b := Build{Image: "x:1", Command: []string{"python3", "/build/in/a.py"}}
	raw, err := json.Marshal(b.podSpec(netip.MustParseAddr("198.18.3.2"), []any{map[string]any{"configMap": map[string]any{"name": "c"}}}, 512))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"automountServiceAccountToken":false`, `"enableServiceLinks":false`, `"dnsPolicy":"None"`, `"nameservers":["198.18.3.2"]`, `"seccompProfile":{"type":"RuntimeDefault"}`, `"runAsNonRoot":true`, `"runAsUser":65532`,
		`"allowPrivilegeEscalation":false`, `"drop":["ALL"]`, `"privileged":false`, `"readOnlyRootFilesystem":true`, `"activeDeadlineSeconds":900`, `"restartPolicy":"Never"`, `"sizeLimit":"512Mi"`,
		`"limits":{"cpu":"2000m","ephemeral-storage":"512Mi","memory":"2048Mi"}`, `"mountPath":"/build/in","name":"in","readOnly":true`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
	for _, no := range []string{"IDENTITY", "secret", "hostPath", "hostNetwork", `"add"`} {
		if strings.Contains(string(raw), no) {
			t.Errorf("%s in %s", no, raw)
		}
	}
}

func TestBuild_FilesComeInParts(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 200_000)
	files := map[string][]byte{"a": []byte("a"), "large": large, "z": []byte("z")}
	got := map[string]string{}
	for _, m := range portions(files) {
		size := 0
		for name, v := range m {
			content, err := base64.StdEncoding.DecodeString(v.(string))
			if err != nil || got[name] != "" {
				t.Fatalf("%s: %v", name, err)
			}
			got[name] = string(content)
			size += len(content)
		}
		if size > maxMapBytes {
			t.Errorf("a ConfigMap has %d bytes", size)
		}
	}
	var whole strings.Builder
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if strings.HasPrefix(name, "large.") {
			whole.WriteString(got[name])
		}
	}
	if got["a"] != "a" || got["z"] != "z" || whole.String() != string(large) || got["large.000"] == "" {
		t.Errorf("got %d files", len(got))
	}
}

func TestBuild_WhyItFails(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 1, 0, 0, time.UTC)
	for name, c := range map[string]struct{ pod, code, text string }{
		"runs":       {`{"phase":"Running","containerStatuses":[{"name":"build","state":{"running":{}}}]}`, "", ""},
		"is made":    {`{"phase":"Pending","containerStatuses":[{"name":"build","state":{"waiting":{"reason":"ContainerCreating"}}}]}`, "", ""},
		"ends":       {`{"phase":"Failed","containerStatuses":[{"name":"build","state":{"terminated":{"exitCode":2}}}]}`, CodeImage, "exit code 2"},
		"gives up":   {`{"phase":"Succeeded","containerStatuses":[{"name":"build","state":{"terminated":{"exitCode":0}}}]}`, CodeImage, "exit code 0"},
		"memory":     {`{"phase":"Failed","containerStatuses":[{"name":"build","state":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}`, CodeImage, "2048 MiB of memory"},
		"time":       {`{"phase":"Failed","reason":"DeadlineExceeded"}`, CodeImage, "longer than 15m"},
		"disk":       {`{"phase":"Failed","reason":"Evicted","message":"exceeds 512Mi"}`, CodeImage, "exceeds 512Mi"},
		"no room":    {`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"1 Insufficient memory.","lastTransitionTime":"2030-01-01T00:00:00Z"}]}`, CodeQuota, "not enough memory"},
		"no image":   {`{"containerStatuses":[{"name":"build","image":"x:1","state":{"waiting":{"reason":"ErrImagePull","message":"x: not found"}}}]}`, CodeImage, "the image x:1 can't run the build: x: not found"},
		"node gone":  {`{"phase":"Failed","reason":"NodeLost","message":"m"}`, CodeImage, "NodeLost m"},
		"no program": {`{"containerStatuses":[{"name":"build","image":"x:1","state":{"terminated":{"exitCode":128,"reason":"StartError","message":"no python3"}}}]}`, CodeImage, "no python3"},
	} {
		f := decode[pod](t, `{"status":`+c.pod+`}`).buildFailed(now)
		if got := fmt.Sprint(f); c.code == "" && f != nil || c.code != "" && (f == nil || f.Code != c.code || !strings.Contains(f.Message, c.text)) {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestBuild_ItsPodHasAName(t *testing.T) {
	c := New(Config{})
	at := netip.MustParseAddr("10.244.0.9")
	c.namedBuild("w", "build-1", at, "ep/blue (environment)")
	if got := c.Who("w", at); got != "ep/blue (environment) (pod build-1)" {
		t.Errorf("got %q", got)
	}
	c.namedBuild("w", "build-1", netip.Addr{}, "")
	if got := c.Who("w", at); got != "" {
		t.Errorf("got %q", got)
	}
}
