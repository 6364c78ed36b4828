package box_test

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/node/box"
)

// TestListed asks again while others change what is listed.
func TestListed(t *testing.T) {
	tries := 0
	got, err := box.Listed(func() ([]int, error) {
		if tries++; tries < 4 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if err != nil || !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := box.Listed(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); err == nil {
		t.Error("a listing that is never whole is taken for one")
	}
}

// TestRemoveLink removes links that somebody else removes at the same moment.
func TestRemoveLink(t *testing.T) {
	r, s := open(t)
	sp, _, err := r.Space(s, "links", box.SpaceSpec{Hostname: "links"})
	if err != nil {
		t.Fatal(err)
	}
	const name = "lztest"
	for range 50 {
		err := sp.Do(func() error {
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
		})
		if err != nil {
			t.Fatal(err)
		}
		var both errgroup.Group
		for range 2 {
			both.Go(func() error { return sp.Do(func() error { return box.RemoveLink(name) }) })
		}
		if err := both.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
