package kube_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// space makes a namespace of the test's own and returns its name.
func (k *kube) space(t *testing.T, cluster, name string) string {
	t.Helper()
	k.kubectl(t, cluster, "create", "namespace", name)
	t.Cleanup(func() {
		if _, err := k.tryKubectl(cluster, "", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	return name
}

// toybox is a pod that runs the toybox with args; app is its label.
func toybox(namespace, name, app string, args ...string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "%s", args: ["%s"], ports: [{name: web, containerPort: 8080}]}]
`, name, namespace, app, Toybox, strings.Join(args, `", "`))
}

// in runs the toybox in a pod and returns what it prints, or its error.
func (k *kube) in(namespace, pod string, args ...string) (string, error) {
	return k.tryKubectl("c1", "", append([]string{"-n", namespace, "exec", pod, "--", "/toybox"}, args...)...)
}

// gives waits until the toybox in a pod prints want.
func (k *kube) gives(t *testing.T, namespace, pod, want string, args ...string) {
	t.Helper()
	// Kubernetes retries the endpoints of a service after 1, 2, 4, … seconds where its view of them is old, as on a loaded machine.
	until(t, 90*time.Second, fmt.Sprintf("%s in %s gives %q", args, pod, want), func() (string, error) {
		return k.in(namespace, pod, args...)
	}, func(s string) bool { return strings.Contains(s, want) })
}

// refused waits until the toybox in a pod is refused at once, by a reset.
func (k *kube) refused(t *testing.T, namespace, pod, address string) {
	t.Helper()
	until(t, 30*time.Second, pod+" is refused at "+address, func() (string, error) {
		_, err := k.in(namespace, pod, "dial", address)
		return fmt.Sprint(err), nil
	}, func(s string) bool { return strings.Contains(s, "connection refused") })
}

// hostGets asks from the host, as a user of the machine does.
func hostGets(url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// TestServices reaches a pod by every kind of service, from a pod and from the
// host, and by name.
func TestServices(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "services")
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello")+toybox(ns, "client", "client", "pause")+`
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: services}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: port, namespace: services}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: services}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: anothers, namespace: services}
spec: {type: LoadBalancer, loadBalancerClass: example.com/other, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: restricted, namespace: services, annotations: {service.beta.kubernetes.io/azure-allowed-ip-ranges: 192.0.2.0/24}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`)
	k.running(t, "c1", ns, "web")
	k.running(t, "c1", ns, "client")
	k.gives(t, ns, "client", "hello", "get", "http://web")
	k.gives(t, ns, "client", "hello", "get", "http://web.services.svc.cluster.local")
	if got, want := k.kubectl(t, "c1", "-n", ns, "exec", "client", "--", "/toybox", "lookup", "web"), k.kubectl(t, "c1", "-n", ns, "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"); got != want {
		t.Errorf("the name of the service is %s, want %s", got, want)
	}
	front := k.kubectl(t, "c1", "-n", ns, "exec", "client", "--", "/toybox", "lookup", "login.microsoftonline.com")
	if !strings.HasPrefix(front, "198.1") {
		t.Errorf("an owned name is %s, want the cluster's own address", front)
	}
	if out, err := k.in(ns, "client", "lookup", "no-such-host.invalid"); err == nil {
		t.Errorf("a name that does not exist is %s", out)
	}

	node := k.kubectl(t, "c1", "get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	nodePort := k.kubectl(t, "c1", "-n", ns, "get", "svc", "port", "-o", "jsonpath={.spec.ports[0].nodePort}")
	hello := func(s string) bool { return strings.HasPrefix(s, "hello") }
	until(t, 20*time.Second, "the node port", func() (string, error) { return hostGets("http://" + node + ":" + nodePort) }, hello)
	address := func(service string) string {
		return until(t, 20*time.Second, "an address of "+service, func() (string, error) {
			return k.tryKubectl("c1", "", "-n", ns, "get", "svc", service, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		}, func(s string) bool { return s != "" })
	}
	first := address("balanced")
	until(t, 20*time.Second, "the load balancer", func() (string, error) { return hostGets("http://" + first) }, hello)
	k.gives(t, ns, "client", "hello", "get", "http://"+first)

	said := func(service, text string) {
		t.Helper()
		until(t, 20*time.Second, "an event of "+service, func() (string, error) {
			return k.tryKubectl("c1", "", "-n", ns, "get", "events", "--field-selector", "involvedObject.name="+service)
		}, func(s string) bool { return strings.Contains(s, text) })
	}
	said("balanced", "The address is "+first)
	said("restricted", "azure-allowed-ip-ranges is not supported")
	for _, service := range []string{"anothers", "restricted"} {
		if got := k.kubectl(t, "c1", "-n", ns, "get", "svc", service, "-o", "jsonpath={.status.loadBalancer.ingress}"); got != "" {
			t.Errorf("%s has the address %s", service, got)
		}
	}

	// kube-proxy lets in only whom the service names.
	k.kubectl(t, "c1", "-n", ns, "patch", "svc", "balanced", "-p", `{"spec":{"loadBalancerSourceRanges":["192.0.2.0/24"]}}`)
	until(t, 30*time.Second, "the host is shut out", func() (string, error) {
		_, err := hostGets("http://" + first)
		return fmt.Sprint(err), nil
	}, func(s string) bool { return s != "<nil>" })

	// Another one asks for the same address, and gets it when it is free.
	k.apply(t, "c1", fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: wants, namespace: services, annotations: {service.beta.kubernetes.io/azure-load-balancer-ipv4: %s}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`, first))
	said("wants", "belongs to the service services/balanced")
	k.kubectl(t, "c1", "-n", ns, "patch", "svc", "balanced", "-p", `{"spec":{"type":"ClusterIP","loadBalancerSourceRanges":null}}`)
	if got := address("wants"); got != first {
		t.Errorf("got %s, want %s", got, first)
	}
	if got := k.kubectl(t, "c1", "-n", ns, "get", "svc", "balanced", "-o", "jsonpath={.status.loadBalancer}"); got != "{}" {
		t.Errorf("a service that is no load balancer any more has %s", got)
	}
}

// TestLoadBalancers_KeepTheClientsAddress asks a service of two nodes that runs
// on one of them: every connection finds it, with the host's address.
func TestLoadBalancers_KeepTheClientsAddress(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "local")
	k.az(t, "aks", "scale", "-g", group, "-n", "c1", "--node-count", "2")
	t.Cleanup(func() { k.az(t, "aks", "scale", "-g", group, "-n", "c1", "--node-count", "1") })
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello")+`
---
apiVersion: v1
kind: Service
metadata: {name: kept, namespace: local}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`)
	k.running(t, "c1", ns, "web")
	address := until(t, 20*time.Second, "an address", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "svc", "kept", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}, func(s string) bool { return s != "" })
	host := regexp.MustCompile(`^hello 198\.1[89]\.\d+\.1:\d+ web\n$`)
	until(t, 30*time.Second, "twenty connections in turn", func() (string, error) {
		for range 20 {
			if out, err := hostGets("http://" + address); err != nil || !host.MatchString(out) {
				return out, err
			}
		}
		return "all", nil
	}, func(s string) bool { return s == "all" })
}

// TestDNS_CoreDNSCustom adds names as on AKS.
func TestDNS_CoreDNSCustom(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "names")
	k.apply(t, "c1", toybox(ns, "client", "client", "pause")+`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns-custom, namespace: kube-system}
data:
  test.override: |
    hosts {
      192.0.2.7 box.example.org
      fallthrough
    }
  puglife.server: |
    pug.life:53 {
      template IN A pug.life {
        answer "{{ .Name }} 60 IN A 192.0.2.8"
      }
    }
`)
	t.Cleanup(func() {
		k.kubectl(t, "c1", "-n", "kube-system", "delete", "configmap", "coredns-custom")
		k.kubectl(t, "c1", "-n", "kube-system", "rollout", "restart", "deployment", "coredns")
	})
	k.kubectl(t, "c1", "-n", "kube-system", "rollout", "restart", "deployment", "coredns") // AKS says so too
	k.kubectl(t, "c1", "-n", "kube-system", "rollout", "status", "deployment", "coredns", "--timeout=60s")
	k.running(t, "c1", ns, "client")
	k.gives(t, ns, "client", "192.0.2.7", "lookup", "box.example.org")
	k.gives(t, ns, "client", "192.0.2.8", "lookup", "pug.life.")
	k.gives(t, ns, "client", "10.0.0.1", "lookup", "kubernetes.default.svc.cluster.local")
}

// TestLoadBalancers_EveryAddressGiven uses up the range.
func TestLoadBalancers_EveryAddressGiven(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "many")
	var all strings.Builder
	for i := range 127 {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: many}\nspec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}\n", i)
	}
	k.apply(t, "c1", all.String())
	events := func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "events", "--field-selector", "reason=AllocationFailed", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.message}{\"\\n\"}{end}")
	}
	out := until(t, time.Minute, "a service without an address", events, func(s string) bool {
		return strings.Contains(s, "every address of the range is given") || strings.Contains(s, "Every address of the range is given")
	})
	waiting := strings.Fields(out)[0]
	k.kubectl(t, "c1", "-n", ns, "delete", "svc", map[bool]string{true: "s1", false: "s0"}[waiting == "s0"])
	until(t, 30*time.Second, "an address for "+waiting, func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "svc", waiting, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}, func(s string) bool { return s != "" })
}

// TestVolumes keeps data over a restart of its pod, and removes it with its
// claim.
func TestVolumes(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "volumes")
	pod := `
apiVersion: v1
kind: Pod
metadata: {name: writer, namespace: volumes}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 65532}
  containers: [{name: c, image: "` + Toybox + `", args: [pause], volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`
	k.apply(t, "c1", `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: volumes}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared, namespace: volumes}
spec: {accessModes: [ReadWriteMany], storageClassName: managed-csi, resources: {requests: {storage: 1Gi}}}
---`+pod)
	k.running(t, "c1", ns, "writer")
	k.kubectl(t, "c1", "-n", ns, "exec", "writer", "--", "/toybox", "write", "/data/file", "kept")
	k.kubectl(t, "c1", "-n", ns, "delete", "pod", "writer")
	k.apply(t, "c1", pod)
	k.running(t, "c1", ns, "writer")
	if got := k.kubectl(t, "c1", "-n", ns, "exec", "writer", "--", "/toybox", "read", "/data/file"); got != "kept" {
		t.Errorf("got %q", got)
	}
	pv := k.kubectl(t, "c1", "-n", ns, "get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
	if got := k.kubectl(t, "c1", "-n", ns, "get", "pvc", "data", "-o", "jsonpath={.spec.storageClassName}"); got != "default" {
		t.Errorf("the default class is %q", got)
	}
	folder := func() string { return strings.Join(k.find(t, pv), " ") }
	if folder() == "" {
		t.Fatalf("no folder of %s on this machine", pv)
	}
	until(t, 20*time.Second, "the claim that all nodes may write is refused", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "describe", "pvc", "shared")
	}, func(s string) bool { return strings.Contains(s, "ReadWriteMany is not supported") })

	node := k.kubectl(t, "c1", "-n", ns, "get", "pod", "writer", "-o", "jsonpath={.spec.nodeName}")
	for name, change := range map[string]string{node: `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`, "another": `{"metadata":{"finalizers":null}}`} {
		if out, err := k.tryKubectl("c1", "", "--as", "lazurite:node:"+name, "--as-group", "lazurite:nodes", "patch", "pv", pv, "-p", change); err == nil {
			t.Errorf("the node %s may %s: %s", name, change, out)
		} else if !strings.Contains(err.Error(), "a node changes only") {
			t.Errorf("the node %s: %v", name, err)
		}
	}

	k.kubectl(t, "c1", "-n", ns, "delete", "pod", "writer")
	k.kubectl(t, "c1", "-n", ns, "delete", "pvc", "data", "--timeout=30s")
	until(t, 30*time.Second, "the volume is gone", func() (string, error) { return k.tryKubectl("c1", "", "get", "pv", "-o", "name") },
		func(s string) bool { return !strings.Contains(s, pv) })
	if got := folder(); got != "" {
		t.Errorf("the data is still in %s", got)
	}
}

// TestNetworkPolicy sees both directions refused and allowed.
func TestNetworkPolicy(t *testing.T) {
	k := shared(t)
	ns, other := k.space(t, "c1", "policies"), k.space(t, "c1", "elsewhere")
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello")+toybox(ns, "client", "client", "pause")+toybox(other, "stranger", "client", "pause")+`
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: policies}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`)
	for _, pod := range [][2]string{{ns, "web"}, {ns, "client"}, {other, "stranger"}} {
		k.running(t, "c1", pod[0], pod[1])
	}
	k.gives(t, ns, "client", "hello", "get", "http://web")
	k.gives(t, other, "stranger", "hello", "get", "http://web.policies")

	k.apply(t, "c1", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-from-client, namespace: policies}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: web}]}]
`)
	k.refused(t, other, "stranger", "web.policies:80")
	k.gives(t, ns, "client", "hello", "get", "http://web")
	until(t, 30*time.Second, "the pod's events say who was refused by what", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "describe", "pod", "web")
	}, func(s string) bool {
		return strings.Contains(s, "pod elsewhere/stranger") && strings.Contains(s, "no ingress rule of policies/web-from-client")
	})

	// A namespace that matches comes to be allowed, and the pod follows.
	k.apply(t, "c1", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-from-friends, namespace: policies}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {friend: "yes"}}}]}]
`)
	k.kubectl(t, "c1", "label", "namespace", other, "friend=yes")
	k.gives(t, other, "stranger", "hello", "get", "http://web.policies")
	k.kubectl(t, "c1", "label", "namespace", other, "friend-")
	k.refused(t, other, "stranger", "web.policies:80")

	k.apply(t, "c1", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client-egress, namespace: policies}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
    ports: [{port: 53, protocol: UDP}]
`)
	k.refused(t, ns, "client", "web:80")
	k.gives(t, ns, "client", "198.1", "lookup", "login.microsoftonline.com")
	k.kubectl(t, "c1", "-n", ns, "delete", "networkpolicy", "client-egress")
	k.gives(t, ns, "client", "hello", "get", "http://web")
}

// TestNetworkPolicy_StandsWithoutItsEnforcer kills the program that sets the
// rules: they stand, load balancers keep their addresses, and what changed
// meanwhile counts when it is back.
func TestNetworkPolicy_StandsWithoutItsEnforcer(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "orphans")
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello")+toybox(ns, "client", "client", "pause")+`
---
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: orphans}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: orphans}
spec: {podSelector: {matchLabels: {app: web}}}
`)
	k.running(t, "c1", ns, "web")
	k.running(t, "c1", ns, "client")
	web := k.kubectl(t, "c1", "-n", ns, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
	address := func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "svc", "balanced", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}
	before := until(t, time.Minute, "an address", address, func(s string) bool { return s != "" })
	k.refused(t, ns, "client", web+":8080")

	kill(t, k.pid(t, "c1", "lazurite-node"), k.pid(t, "c1", "lazurite-controller"))
	if out, err := k.in(ns, "client", "dial", web+":8080"); err == nil {
		t.Errorf("without the enforcer the pod gets through: %s", out)
	}
	k.kubectl(t, "c1", "-n", ns, "delete", "networkpolicy", "nobody")
	k.healed(t, "c1")
	k.gives(t, ns, "client", "hello", "get", "http://"+web+":8080")
	if after, err := address(); err != nil || after != before {
		t.Errorf("the load balancer's address was %s, is %s, %v", before, after, err)
	}
}

// TestNetworkPolicy_StandsBeforeTheFirstContainer starts pods that dial at
// once, under a policy that lets nothing out.
func TestNetworkPolicy_StandsBeforeTheFirstContainer(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "early")
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello"))
	k.running(t, "c1", ns, "web")
	address := k.kubectl(t, "c1", "-n", ns, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
	manifest := `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nothing-out, namespace: early}
spec: {podSelector: {matchLabels: {app: dials}}, policyTypes: [Egress]}`
	for i := range 6 {
		pod := toybox(ns, fmt.Sprintf("dials-%d", i), "dials", "dial", address+":8080")
		manifest += strings.Replace(pod, "spec:", "spec:\n  restartPolicy: Never", 1)
	}
	k.apply(t, "c1", manifest)
	until(t, time.Minute, "the dialling pods have failed", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "pods", "-l", "app=dials", "-o", "jsonpath={.items[*].status.phase}")
	}, func(s string) bool { return s == strings.TrimSpace(strings.Repeat("Failed ", 6)) })
	logs := k.kubectl(t, "c1", "-n", ns, "logs", "-l", "app=dials", "--tail", "5", "--max-log-requests", "6")
	if got := strings.Count(logs, "connection refused"); got != 6 {
		t.Errorf("the pods say: %s", logs)
	}
}

// TestPods uses what kubectl and the controllers offer.
func TestPods(t *testing.T) {
	k := shared(t)
	ns := k.space(t, "c1", "pods")
	defer func() {
		if t.Failed() {
			seen, err := k.tryKubectl("c1", "", "-n", ns, "get", "pods,endpointslices,events", "-o", "wide")
			t.Log(seen, err)
		}
	}()
	k.apply(t, "c1", toybox(ns, "web", "web", "serve", "8080", "hello")+`
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: pods}
spec:
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: "`+Toybox+`", args: [env]}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each, namespace: pods}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "`+Toybox+`", args: [pause]}]}
---
apiVersion: v1
kind: Service
metadata: {name: ordered, namespace: pods}
spec: {clusterIP: None, selector: {app: ordered}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ordered, namespace: pods}
spec:
  serviceName: ordered
  replicas: 2
  selector: {matchLabels: {app: ordered}}
  template:
    metadata: {labels: {app: ordered}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 65532}
      containers: [{name: c, image: "`+Toybox+`", args: [serve, "8080", state], volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: managed-csi, resources: {requests: {storage: 1Mi}}}
`)
	k.running(t, "c1", ns, "web")
	k.kubectl(t, "c1", "-n", ns, "wait", "--for=condition=complete", "job/once", "--timeout=90s")
	k.kubectl(t, "c1", "-n", ns, "rollout", "status", "daemonset/each", "--timeout=90s")
	k.kubectl(t, "c1", "-n", ns, "rollout", "status", "statefulset/ordered", "--timeout=90s")
	k.gives(t, ns, "web", "state", "get", "http://ordered-1.ordered:8080")
	if got := k.kubectl(t, "c1", "-n", ns, "logs", "job/once"); !strings.Contains(got, "KUBERNETES_SERVICE_HOST=10.0.0.1") {
		t.Errorf("the job's log: %s", got)
	}
	if got := k.kubectl(t, "c1", "-n", ns, "describe", "pod", "web"); !regexp.MustCompile(`Normal +Started `).MatchString(got) {
		t.Errorf("describe shows no events:\n%s", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	forward := k.Command(ctx, k.Bin, "run", "--", "kubectl", "--kubeconfig", k.config("c1"), "-n", ns, "port-forward", "pod/web", "18080:8080")
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 20*time.Second, "the forwarded port", func() (string, error) { return hostGets("http://127.0.0.1:18080") }, func(s string) bool { return strings.HasPrefix(s, "hello") })
	cancel()
	if err := forward.Wait(); err == nil {
		t.Error("the forward ended by itself")
	}
}

// find lists the folders of a volume below the cloud's state.
func (k *kube) find(t *testing.T, volume string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(k.Dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // gone meanwhile
		case d.IsDir() && d.Name() == volume && filepath.Base(filepath.Dir(file)) == "volumes":
			found = append(found, file)
			return fs.SkipDir
		case d.IsDir() && (d.Name() == "containerd" || d.Name() == "kubelet"):
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
