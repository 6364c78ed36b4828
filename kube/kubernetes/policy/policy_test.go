package policy_test

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"lazurite.dev/kube/kubernetes/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world reads a world from a file of manifests; its node is "here".
func world(t *testing.T, file string) *policy.World {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &policy.World{Namespaces: map[string]map[string]string{}}
	raw := yaml.NewYAMLReader(bufio.NewReader(f))
	for {
		doc, err := raw.Read()
		if errors.Is(err, io.EOF) {
			return w
		}
		if err != nil {
			t.Fatal(err)
		}
		add(t, w, doc)
	}
}

func add(t *testing.T, w *policy.World, doc []byte) {
	t.Helper()
	decode := func(into any) {
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			t.Fatal(err)
		}
	}
	var kind struct{ Kind string }
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		t.Fatal(err)
	}
	switch kind.Kind {
	case "Namespace":
		var n corev1.Namespace
		decode(&n)
		w.Namespaces[n.Name] = n.Labels
	case "Pod":
		var p corev1.Pod
		decode(&p)
		if pod, ok := policy.FromPod(&p, "here"); ok {
			w.Pods = append(w.Pods, pod)
		}
	case "NetworkPolicy":
		var p networkingv1.NetworkPolicy
		decode(&p)
		w.Policies = append(w.Policies, &p)
	default:
		t.Fatalf("a document of kind %q", kind.Kind)
	}
}

func worlds(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no worlds: %v", err)
	}
	return files
}

func TestCompile_GoldenRules(t *testing.T) {
	for _, file := range worlds(t) {
		got := policy.Whole(policy.Compile(world(t, file)))
		golden := strings.TrimSuffix(file, ".yaml") + ".nft"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestCompile_OrderOfTheWorldDoesNotMatter(t *testing.T) {
	for _, file := range worlds(t) {
		a, b := world(t, file), world(t, file)
		slices.Reverse(b.Pods)
		slices.Reverse(b.Policies)
		if diff := cmp.Diff(policy.Compile(a), policy.Compile(b)); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

func TestChange_NothingForTheSameRules(t *testing.T) {
	for _, file := range worlds(t) {
		r := policy.Compile(world(t, file))
		if got := policy.Change(r, policy.Compile(world(t, file))); got != "" {
			t.Errorf("%s: %s", file, got)
		}
	}
}

func TestChange_ANewPeerIsOneElement(t *testing.T) {
	w := world(t, "testdata/peers.yaml")
	before := policy.Compile(w)
	pod := w.Pods[1] // a client elsewhere
	pod.UID, pod.Name, pod.Address = "u-new", "new", pod.Address.Next().Next().Next().Next()
	w.Pods = append(w.Pods, pod)
	got := policy.Change(before, policy.Compile(w))
	want := "add element ip lazurite-policy in-peers-43dadb19ce-shop/ingress-0 { 10.244.1.6 }\n" +
		"add element ip lazurite-policy in-peers-43dadb19ce-shop/ingress-2 { 10.244.1.6 }\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSelecting(t *testing.T) {
	w := world(t, "testdata/peers.yaml")
	if got, want := w.Selecting(&w.Pods[0], networkingv1.PolicyTypeIngress), []string{"shop/ingress", "shop/only-v6"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := w.Selecting(&w.Pods[0], networkingv1.PolicyTypeEgress), []string{"shop/egress"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
