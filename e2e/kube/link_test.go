package kube_test

import (
	"strings"
	"testing"
	"time"
)

// TestCutLink cuts a node's link: pulled out it is put back in without anybody's
// doing; where nothing gets through laz status says that the node is gone, and
// when something does again all is as before.
func TestCutLink(t *testing.T) {
	k := battered(t)
	node := k.cluster(t, "c1").Nodes[0].Name
	k.pod(t, "c1", "linked")
	before := k.since(t, "c1", "linked")
	reached := func() {
		t.Helper()
		until(t, time.Minute, "the pod is reached", func() (string, error) { return k.inside("c1", "linked", "env") },
			func(s string) bool { return strings.Contains(s, "HOSTNAME=linked") })
		k.healed(t, "c1")
		if now := k.since(t, "c1", "linked"); now != before {
			t.Errorf("the pod was %s, is %s", before, now)
		}
	}

	for _, what := range []string{"down at the node", "down at the cluster", "deleted"} {
		t.Run(what, func(t *testing.T) {
			switch what {
			case "down at the node":
				k.enter(t, "c1", node, "ip", "link", "set", "eth0", "down")
			case "down at the cluster":
				k.enter(t, "c1", "", "ip", "link", "set", "n16", "down")
			default:
				k.enter(t, "c1", node, "ip", "link", "delete", "eth0")
			}
			reached()
		})
	}

	t.Run("silent", func(t *testing.T) {
		k.enter(t, "c1", node, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority -500; }; add rule inet cut in iifname eth0 drop")
		cut := true
		t.Cleanup(func() {
			if cut {
				k.enter(t, "c1", node, "nft", "delete table inet cut")
			}
		})
		until(t, 2*time.Minute, "laz status says that the node is not ready", func() (string, error) { return k.ill("c1") },
			func(s string) bool { return strings.Contains(s, node) })
		if out := k.az(t, "status"); !strings.Contains(out, "not ready") && !strings.Contains(out, "NotReady") {
			t.Errorf("the page does not say it:\n%s", out)
		}
		k.enter(t, "c1", node, "nft", "delete table inet cut")
		cut = false
		reached()
	})
}
