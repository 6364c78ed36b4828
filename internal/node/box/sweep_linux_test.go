package box_test

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

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
