package live

import (
	"os"
	"os/exec"
	"testing"
)

// Has says whether a program is on the PATH.
func Has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Need ends the test where something it needs is not on this machine: in CI the
// test fails, so that nothing is left out in silence; on a person's machine it
// is skipped, and says what to install.
func Need(t *testing.T, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("CI") != "":
		t.Fatalf("this test needs %s", what)
	default:
		t.Skipf("this test needs %s", what)
	}
}
