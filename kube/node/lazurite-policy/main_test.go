package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

const previous = `{"cniVersion":"1.0.0","ips":[{"address":"10.244.0.7/32"}]}`

// node answers as lazurite-node, and keeps what it was asked.
func node(t *testing.T, status int, text string) (socket string, asked *[]request) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked = &[]request{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		*asked = append(*asked, q)
		w.WriteHeader(status)
		w.Write([]byte(text))
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket, asked
}

func call(t *testing.T, command, args, in string) (string, error) {
	t.Helper()
	env := map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": "box", "CNI_ARGS": args}
	var out bytes.Buffer
	err := run(func(name string) string { return env[name] }, strings.NewReader(in), &out)
	return out.String(), err
}

const pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u"

func input(socket string) string {
	return `{"cniVersion":"1.0.0","name":"pods","type":"lazurite-policy","socket":"` + socket + `","prevResult":` + previous + `}`
}

func TestAdd_PassesTheResultOnWhenTheRulesStand(t *testing.T) {
	socket, asked := node(t, http.StatusOK, "")
	out, err := call(t, "ADD", pod, input(socket))
	if err != nil || out != previous {
		t.Errorf("got %q, %v", out, err)
	}
	want := request{Command: "ADD", Sandbox: "box", Namespace: "shop", Pod: "web", UID: "u", Address: "10.244.0.7"}
	if len(*asked) != 1 || (*asked)[0] != want {
		t.Errorf("got %+v, want %+v", *asked, want)
	}
}

func TestAdd_RefusedWithTheReason(t *testing.T) {
	socket, _ := node(t, http.StatusInternalServerError, "nft: no such table\n")
	if _, err := call(t, "ADD", pod, input(socket)); err == nil || !strings.Contains(err.Error(), "nft: no such table") {
		t.Errorf("got %v", err)
	}
	for _, in := range []string{"", "{}", `{"prevResult":{"ips":[{"address":"fd00::1/128"}]}}`} {
		if out, err := call(t, "ADD", pod, in); err == nil {
			t.Errorf("%s: no error, %q", in, out)
		}
	}
	if _, err := call(t, "ADD", "", input(socket)); err == nil {
		t.Error("a pod without a name is taken")
	}
}

func TestDel_NeverFails(t *testing.T) {
	socket, asked := node(t, http.StatusOK, "")
	if _, err := call(t, "DEL", pod, input(socket)); err != nil || len(*asked) != 1 || (*asked)[0].Command != "DEL" {
		t.Errorf("got %v, %v", *asked, err)
	}
	if _, err := call(t, "DEL", pod, input(filepath.Join(t.TempDir(), "none"))); err != nil {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	out, err := call(t, "VERSION", "", "{}")
	if err != nil || !json.Valid([]byte(out)) {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := call(t, "FLY", "", "{}"); err == nil {
		t.Error("an unknown command is taken")
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(pod, []byte(previous))
	f.Add("K8S_POD_UID=;;=", []byte(`{"ips":[{"address":"::ffff:10.0.0.1/128"},{"address":"10.0.0.1"}]}`))
	f.Fuzz(func(t *testing.T, args string, previous []byte) {
		q, err := add(func(name string) string {
			if name == "CNI_ARGS" {
				return args
			}
			return ""
		}, previous)
		if address, bad := netip.ParseAddr(q.Address); err == nil && (bad != nil || !address.Is4() || q.UID == "") {
			t.Errorf("%+v", q)
		}
	})
}
