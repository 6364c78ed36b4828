package daemon

import (
	"strings"
	"testing"

	"lazurite.dev/internal/server"
)

func TestPickClusters(t *testing.T) {
	all := []server.ClusterState{
		{Name: "one", Group: "g", ID: "/subscriptions/s/resourceGroups/g/x/one", State: "running", Server: "https://198.18.0.2:6443"},
		{Name: "two", Group: "g", ID: "/subscriptions/s/resourceGroups/g/x/two", State: "applying", Server: "https://198.18.1.2:6443"},
		{Name: "halted", Group: "g", ID: "/h", State: "stopped", Server: "https://198.18.2.2:6443"},
		{Name: "tokens", Group: "g", ID: "/t", State: "running", Driver: "issuer"},
		{Name: "twin", Group: "g", ID: "/g/twin", State: "running", Server: "s"}, {Name: "twin", Group: "k", ID: "/k/twin", State: "running", Server: "s"},
	}
	for _, c := range []struct{ name, want, err string }{
		{"", "one two twin twin", ""}, {"ONE", "one", ""}, {"/subscriptions/s/resourcegroups/G/x/two", "two", ""}, {"/k/twin", "twin", ""},
		{"three", "", "there are: one, two"}, {"halted", "", "laz aks start --name halted"}, {"tokens", "", "its driver is 'issuer'"}, {"twin", "", "several clusters"},
	} {
		got, err := pickClusters(all, c.name)
		var names []string
		for _, g := range got {
			names = append(names, g.Name)
		}
		if strings.Join(names, " ") != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: got %q, %v", c.name, names, err)
		}
	}
	if _, err := pickClusters(nil, ""); err == nil || !strings.Contains(err.Error(), "laz aks create") {
		t.Errorf("without clusters: %v", err)
	}
	if _, err := pickClusters(all[3:4], ""); err == nil || !strings.Contains(err.Error(), "no cluster runs") {
		t.Errorf("without nodes: %v", err)
	}
}

func TestImageTable(t *testing.T) {
	got := imageTable(style{}, []clusterImages{
		{Cluster: "one", Images: []server.ImageState{
			{Names: []string{"lazurite.dev/pause:3.10", "lazurite.dev/pause@sha256:abc"}, Bytes: 1 << 20, Nodes: []string{"a", "b"}},
			{Names: []string{"lazurite.dev/app:v1"}, Bytes: 30 << 20, Nodes: []string{"a"}}, {Digest: "sha256:def", Names: []string{"sha256:def"}},
		}},
		{Cluster: "two"},
	})
	want := `one
  lazurite.dev/app:v1      30 MiB, 1 node
  lazurite.dev/pause:3.10  1.0 MiB, 2 nodes
  sha256:def               0 B
two
  no images
`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
}
