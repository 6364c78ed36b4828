package mutate

import (
	"errors"
	"fmt"
	"strings"
)

// Pod is what the mutations look at of a pod; nothing else of it is kept.
// Its byte slices belong to the text that it was read from.
type Pod struct {
	Name, GenerateName string
	ServiceAccount     string
	HostNetwork        bool

	annotations []annotation
	hasInit     bool // there is a list initContainers, possibly empty
	hasVolumes  bool
	init        []container
	containers  []container
	volumes     [][]byte // names
	mounts      [][]byte // names, those of container c at c.mounts
}

type annotation struct {
	key   string
	value string
}

type container struct {
	name      []byte
	env       envSet // of the names that we may set, those that are there
	hasEnv    bool
	hasMounts bool
	from, to  int // its mounts
}

// Annotation is the value of one of the annotations under
// azure.workload.identity/ and lazurite.dev/, and whether it is there.
func (p *Pod) Annotation(key string) (string, bool) {
	for i := len(p.annotations) - 1; i >= 0; i-- {
		if p.annotations[i].key == key {
			return p.annotations[i].value, true
		}
	}
	return "", false
}

// DisplayName is the pod's name, or its prefix, as messages and the volume's
// name use it.
func (p *Pod) DisplayName() string {
	if p.Name == "" {
		return p.GenerateName + " (prefix)"
	}
	return p.Name
}

// ServiceAccountName is the account that the pod runs under: "default" where
// it names none.
func (p *Pod) ServiceAccountName() string {
	if p.ServiceAccount == "" {
		return "default"
	}
	return p.ServiceAccount
}

func (p *Pod) reset() {
	*p = Pod{annotations: p.annotations[:0], init: p.init[:0], containers: p.containers[:0], volumes: p.volumes[:0], mounts: p.mounts[:0]}
}

// ParsePod reads a pod in JSON. It replaces what p held.
func (p *Pod) ParsePod(b []byte) error {
	s := scanner{b: b}
	p.scan(&s)
	if err := s.end(); err != nil {
		return fmt.Errorf("decode pod: %w", err)
	}
	return nil
}

func (p *Pod) scan(s *scanner) {
	p.reset()
	if s.peek() != '{' {
		s.fail("expected {")
		return
	}
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "metadata":
			p.metadata(s)
		case "spec":
			p.spec(s)
		default:
			s.skip()
		}
	}
}

func (p *Pod) metadata(s *scanner) {
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "name":
			p.Name = string(s.optional())
		case "generateName":
			p.GenerateName = string(s.optional())
		case "annotations":
			p.annotations = p.annotations[:0]
			for ok := s.open('{'); ok; ok = s.more('{') {
				p.annotation(s)
			}
		default:
			s.skip()
		}
	}
}

func (p *Pod) annotation(s *scanner) {
	key := s.key()
	if !strings.HasPrefix(string(key), prefix) && !strings.HasPrefix(string(key), "lazurite.dev/") {
		if s.peek() != 'n' {
			s.raw()
			return
		}
		s.literal("null")
		return
	}
	p.annotations = append(p.annotations, annotation{string(key), string(s.optional())})
}

func (p *Pod) spec(s *scanner) {
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "serviceAccountName":
			p.ServiceAccount = string(s.optional())
		case "hostNetwork":
			p.HostNetwork = s.bool()
		case "initContainers":
			p.hasInit = s.peek() == '['
			p.init = p.list(s, p.init[:0])
		case "containers":
			p.containers = p.list(s, p.containers[:0])
		case "volumes":
			p.hasVolumes = s.peek() == '['
			p.volumes = p.volumes[:0]
			for ok := s.open('['); ok; ok = s.more('[') {
				p.volumes = append(p.volumes, nameOf(s))
			}
		default:
			s.skip()
		}
	}
}

// nameOf reads an object and returns its member "name".
func nameOf(s *scanner) (name []byte) {
	for ok := s.open('{'); ok; ok = s.more('{') {
		if string(s.key()) == "name" {
			name = s.optional()
		} else {
			s.skip()
		}
	}
	return name
}

func (p *Pod) list(s *scanner, into []container) []container {
	for ok := s.open('['); ok; ok = s.more('[') {
		into = append(into, p.container(s))
	}
	return into
}

func (p *Pod) container(s *scanner) container {
	var c container
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "name":
			c.name = s.optional()
		case "env":
			c.env, c.hasEnv = 0, s.peek() == '['
			for ok := s.open('['); ok; ok = s.more('[') {
				c.env |= envSetOf(nameOf(s))
			}
		case "volumeMounts":
			c.from, c.hasMounts = len(p.mounts), s.peek() == '['
			for ok := s.open('['); ok; ok = s.more('[') {
				p.mounts = append(p.mounts, nameOf(s))
			}
			c.to = len(p.mounts)
		default:
			s.skip()
		}
	}
	return c
}

// Review is an AdmissionReview of a pod that is being made, of the API versions
// admission.k8s.io/v1 and v1beta1.
type Review struct {
	APIVersion string
	UID        string
	Namespace  string
	DryRun     bool
	Pod        Pod

	kind      string
	hasObject bool
}

// ErrReview says that a request is no AdmissionReview of a pod.
var ErrReview = errors.New("not an AdmissionReview of a pod")

// Parse reads a review. It replaces what r held; r may be used again and again.
func (r *Review) Parse(b []byte) error {
	pod := r.Pod
	pod.reset()
	*r = Review{Pod: pod}
	s := scanner{b: b}
	if s.peek() != '{' {
		return fmt.Errorf("%w: expected an object", ErrReview)
	}
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "apiVersion":
			r.APIVersion = apiVersion(s.optional())
		case "request":
			r.request(&s)
		default:
			s.skip()
		}
	}
	if err := s.end(); err != nil {
		return fmt.Errorf("%w: %w", ErrReview, err)
	}
	switch {
	case r.APIVersion == "":
		return fmt.Errorf("%w: apiVersion is neither admission.k8s.io/v1 nor v1beta1", ErrReview)
	case r.UID == "":
		return fmt.Errorf("%w: request.uid is empty", ErrReview)
	case r.kind != "Pod" || !r.hasObject:
		return fmt.Errorf("%w: request.object is no Pod", ErrReview)
	}
	return nil
}

func apiVersion(b []byte) string {
	switch string(b) {
	case "admission.k8s.io/v1":
		return "admission.k8s.io/v1"
	case "admission.k8s.io/v1beta1":
		return "admission.k8s.io/v1beta1"
	}
	return ""
}

func (r *Review) request(s *scanner) {
	for ok := s.open('{'); ok; ok = s.more('{') {
		switch string(s.key()) {
		case "uid":
			r.UID = string(s.optional())
		case "namespace":
			r.Namespace = string(s.optional())
		case "dryRun":
			r.DryRun = s.bool()
		case "kind":
			r.kind = ""
			for ok := s.open('{'); ok; ok = s.more('{') {
				if string(s.key()) == "kind" {
					r.kind = string(s.optional())
				} else {
					s.skip()
				}
			}
		case "object":
			if r.hasObject = s.peek() == '{'; r.hasObject {
				r.Pod.scan(s)
			} else {
				s.skip()
			}
		default:
			s.skip()
		}
	}
}
