package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lazurite.dev/internal/cli"
	"lazurite.dev/laztest"
)

// program runs commands as cmd/laz does, in this process: scripts type so many
// that starting one each would take minutes under the race detector.
func program(name string) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		status := cli.Main(context.Background(), args, cli.Env{
			Stdin: strings.NewReader(""), Stdout: ts.Stdout(), Stderr: ts.Stderr(), Getenv: ts.Getenv, Dir: ts.MkAbs("."), Program: name, Version: "1.2.3",
		})
		ts.Setenv("STATUS", strconv.Itoa(status))
		if status != 0 && !neg {
			ts.Fatalf("unexpected status %d", status)
		}
		if status == 0 && neg {
			ts.Fatalf("unexpected success")
		}
	}
}

// TestScripts types the commands of testdata against a whole server. Scripts
// share it: each works in resource groups of its own.
func TestScripts(t *testing.T) {
	cloud := laztest.New(t)
	t.Run("all", func(t *testing.T) { // ends when all parallel scripts have
		testscript.Run(t, testscript.Params{
			Dir: "testdata",
			Setup: func(env *testscript.Env) error {
				env.Vars = append(env.Vars, cloud.Environ()...)
				dir := filepath.Join(env.WorkDir, "azure")
				env.Vars = append(env.Vars, "AZURE_CONFIG_DIR="+dir, "HOME="+env.WorkDir,
					"SUB="+cloud.Subscription, "TENANT="+cloud.Tenant, "OWNER="+cloud.Owner, "PASSWORD="+cloud.Password, "OWNERID="+cloud.OwnerID(t))
				if err := os.MkdirAll(dir, 0o700); err != nil {
					return err
				}
				for _, f := range []string{"azureProfile.json", "laz_owner.json"} {
					b, err := os.ReadFile(filepath.Join(cloud.Home, "azure", f))
					if err != nil {
						return err
					}
					if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
						return err
					}
				}
				return nil
			},
			Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
				"az": program("az"), "laz": program("laz"), "exited": exited, "subst": subst, "field": field,
			},
		})
	})
}

// exited checks the status of the last command: exited STATUS.
func exited(ts *testscript.TestScript, _ bool, args []string) {
	if got := ts.Getenv("STATUS"); got != args[0] {
		ts.Fatalf("the status was %s, want %s", got, args[0])
	}
}

// field writes one member of a JSON file to a file of its name: field FILE NAME.
func field(ts *testscript.TestScript, _ bool, args []string) {
	var m map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &m))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(m[args[1]].(string)+"\n"), 0o600))
}

// subst replaces words of a file by the environment's values: subst FILE NAME…
func subst(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, name := range args[1:] {
		text = strings.ReplaceAll(text, name, ts.Getenv(name))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
