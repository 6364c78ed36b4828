// Kubernetes is every component of a cluster in one binary: the name under
// which it is called, or else its first argument, says which one runs.
//
//	kubernetes kube-apiserver --etcd-servers=…
//	ln kubernetes kubectl && ./kubectl get pods
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"lazurite.dev/kube/kubernetes/controller"
	"lazurite.dev/kube/kubernetes/etcd"
	"lazurite.dev/kube/kubernetes/node"
)

// components are the names that this binary answers to. Each reads os.Args,
// whose first element is its name, and returns the exit status.
func components() map[string]func() int {
	return map[string]func() int{
		"kube-apiserver":          run(apiserver.NewAPIServerCommand),
		"kube-controller-manager": run(controllermanager.NewControllerManagerCommand),
		"kube-scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kubelet":                 run(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
		"kube-proxy":              run(proxy.NewProxyCommand),
		"kubectl":                 runKubectl,
		"etcd":                    func() int { return etcd.Main(os.Args[1:], os.Stderr) },
		"lazurite-controller":     func() int { return controller.Main(os.Args[1:], os.Stderr) },
		"lazurite-node":           func() int { return node.Main(os.Args[1:], os.Stderr) },
	}
}

func main() {
	all := components()
	component, ok := all[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		if component, ok = all[os.Args[1]]; ok {
			os.Args = os.Args[1:]
		}
	}
	if !ok {
		names := make([]string, 0, len(all))
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "usage: kubernetes COMPONENT [flags]\ncomponents: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(component())
}

func run(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// runKubectl shows errors as kubectl does, not as a component's log.
func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // ends the process with kubectl's status
	}
	return 0
}
