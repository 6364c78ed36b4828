package cluster

import (
	"encoding/base64"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Kubeconfig writes the access as a file for kubectl, under the names that
// clients merge by. Source: Kubernetes, client-go clientcmd/api/v1, Config.
func (a Access) Kubeconfig(name, user string) ([]byte, error) {
	type object = map[string]any
	b64 := base64.StdEncoding.EncodeToString
	who := object{}
	if a.Token != "" {
		who["token"] = a.Token
	} else {
		who["client-certificate-data"], who["client-key-data"] = b64(a.Cert), b64(a.Key)
	}
	server := object{"server": a.Server}
	if a.ServerName != "" {
		server["tls-server-name"] = a.ServerName
	}
	if len(a.CA) > 0 {
		server["certificate-authority-data"] = b64(a.CA)
	}
	out, err := yaml.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "preferences": object{}, "current-context": name,
		"clusters": []object{{"name": name, "cluster": server}},
		"contexts": []object{{"name": name, "context": object{"cluster": name, "user": user}}},
		"users":    []object{{"name": user, "user": who}},
	})
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return out, nil
}
