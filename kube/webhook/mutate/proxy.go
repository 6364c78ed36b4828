package mutate

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// noProxy is no port: the pod wants none.
const noProxy = math.MinInt64

// proxyPort is where the pod's proxy listens, noProxy where it asks for none.
func (m *Identity) proxyPort(pod *Pod) (int64, error) {
	if _, ok := pod.Annotation(AnnotationInjectProxy); !ok {
		return noProxy, nil
	}
	if pod.HostNetwork { // its rules would hold for the whole node
		return 0, errors.New("hostNetwork is set to true, cannot inject proxy sidecar")
	}
	text, ok := pod.Annotation(AnnotationProxyPort)
	if !ok {
		return defaultProxyPort, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("failed to parse proxy sidecar port: %w", err)
	}
	return n, nil
}

// proxy adds the two containers, last, so that the places of the others hold
// until then. They come with what a container of the pod gets.
func (w *work) proxy() {
	initThere := has(w.pod.init, proxyInitName)
	in, list := "/spec/containers", w.pod.containers
	if w.m.o.NativeSidecar {
		in, list = "/spec/initContainers", w.pod.init
	}
	there := has(list, proxyName)
	exists := w.pod.hasInit
	if !there && w.m.o.NativeSidecar && !exists {
		w.p.element(in, false, w.sidecar())
		there, exists = true, true
	}
	if !there {
		w.p.op("add", in)
		w.p.index(0)
		w.p.value()
		w.p.b = append(w.p.b, w.sidecar()...)
		w.p.done()
	}
	if !initThere {
		w.p.element("/spec/initContainers", exists, w.redirect())
	}
}

func has(list []container, name string) bool {
	for i := range list {
		if string(list[i].name) == name {
			return true
		}
	}
	return false
}

// sidecar is the container that answers as the instance metadata service.
func (w *work) sidecar() []byte {
	flag, level := fmt.Sprintf("--proxy-port=%d", w.port), "--log-level="+w.m.o.LogLevel
	probe := w.m.o.ProxyCommand
	if len(probe) == 0 {
		probe = []string{"/proxy"}
	}
	b := append(make([]byte, 0, 1536), `{"name":"`+proxyName+`","image":`...)
	b = append(appendString(b, w.m.o.ProxyImage), `,"imagePullPolicy":"IfNotPresent",`...)
	if len(w.m.o.ProxyCommand) > 0 {
		b = append(appendList(append(b, `"command":`...), w.m.o.ProxyCommand), ',')
	}
	b = appendList(append(b, `"args":`...), []string{flag, level})
	b = append(b, `,"ports":[{"containerPort":`...)
	b = strconv.AppendInt(b, w.port, 10)
	b = append(b, `}],"lifecycle":{"postStart":{"exec":{"command":`...)
	b = appendList(b, append(append([]string(nil), probe...), flag, "--probe", level))
	b = append(b, `}}},"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"privileged":false,"readOnlyRootFilesystem":true,"runAsNonRoot":true`...)
	if len(w.m.o.ProxyCommand) > 0 { // our image is many things: who runs decides, and the redirection spares this one
		b = append(b, `,"runAsUser":`+proxyUser...)
	}
	b = append(b, '}')
	if w.m.o.NativeSidecar {
		b = append(b, `,"restartPolicy":"Always"`...)
	}
	return w.finish(b, proxyName, nil)
}

// proxyUser is whose connections are not redirected.
const proxyUser = "1501"

// redirect is the container that turns the pod's calls of the instance metadata
// service to the sidecar.
func (w *work) redirect() []byte {
	b := append(make([]byte, 0, 1024), `{"name":"`+proxyInitName+`","image":`...)
	b = append(appendString(b, w.m.o.ProxyInitImage), `,"imagePullPolicy":"IfNotPresent"`...)
	if len(w.m.o.ProxyInitCommand) > 0 {
		b = appendList(append(b, `,"command":`...), w.m.o.ProxyInitCommand)
	}
	b = append(b, `,"securityContext":{"capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]},"privileged":true,"runAsNonRoot":false,"runAsUser":0}`...)
	port := newVariable(0, "PROXY_PORT", strconv.FormatInt(w.port, 10))
	return w.finish(b, proxyInitName, &port)
}

// finish gives a container of ours what a container of the pod gets, and ends it.
func (w *work) finish(b []byte, name string, first *variable) []byte {
	p := patch{b}
	skip := w.skips(name)
	vars := make([]variable, 0, len(w.vars)+1)
	if first != nil {
		vars = append(vars, *first)
	}
	if !skip {
		vars = append(vars, w.vars...)
	}
	if len(vars) > 0 {
		p.b = append(p.b, `,"env":`...)
		p.env(0, vars)
	}
	if !skip {
		p.b = append(p.b, `,"volumeMounts":[`...)
		p.b = append(p.b, w.mount...)
		p.b = append(p.b, ']')
	}
	return append(p.b, '}')
}

func appendList(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}
