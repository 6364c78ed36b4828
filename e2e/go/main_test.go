// Package clients_test runs Microsoft's Go SDKs against laz, unmodified and
// with no option set.
package clients_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"lazurite.dev/e2e/live"
)

var cloud live.Cloud

func TestMain(m *testing.M) {
	os.Exit(live.Main(m, &cloud, live.World))
}

// must is v, or the end of the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// az runs a command as the owner, whichever identity the test has.
func az(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cloud.TSV(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// azJSON is az for an answer of several fields.
func azJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := cloud.Laz(append(args, "--output", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
}

// owner is what DefaultAzureCredential finds under a plain laz run: az, signed in.
func owner(t *testing.T) azcore.TokenCredential {
	t.Helper()
	return must(azidentity.NewDefaultAzureCredential(nil))(t)
}

// refused says that err is the service's answer with this status and code.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var r *azcore.ResponseError
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with %d %s", err, status, code)
	}
	if r.StatusCode != status || r.ErrorCode != code {
		t.Errorf("refused with %d %s, want %d %s", r.StatusCode, r.ErrorCode, status, code)
	}
}

// notAuthenticated says that no token was given, and that the reason holds all of words.
func notAuthenticated(t *testing.T, err error, status int, words ...string) {
	t.Helper()
	var r *azidentity.AuthenticationFailedError
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refused sign-in", err)
	}
	if r.RawResponse == nil || r.RawResponse.StatusCode != status {
		t.Errorf("refused with %v, want %d", statusOf(r.RawResponse), status)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
}

func statusOf(r *http.Response) any {
	if r == nil {
		return "no answer"
	}
	return r.StatusCode
}
