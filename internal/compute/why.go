package compute

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Exit codes that say something.
const (
	exitInit   = 3   // of the inference server: init() failed
	exitKilled = 137 // SIGKILL
)

const (
	crashes       = 2                // ends of a server after which it is given up
	unschedulable = 10 * time.Second // how long a pod may find no room: nodes come up meanwhile
)

// verdict is how a rollout stands.
type verdict struct {
	done     bool
	some     bool   // an instance takes requests, of whatever revision
	progress string // what it waits for; as long as it changes, it goes on
	failure  *Failure
	// from is where the reason stands: the end of that container's log belongs to
	// the failure.
	pod       string
	container string
}

// rollout is the state of a Deployment of Kubernetes.
type rollout struct {
	Metadata struct{ Generation int64 }
	Spec     struct{ Replicas int }
	Status   struct {
		ObservedGeneration                           int64
		Replicas, UpdatedReplicas, AvailableReplicas int
	}
}

// judge says how a rollout stands, by its Deployment and the pods of its
// revision.
func judge(r rollout, pods []pod, now time.Time) verdict {
	want, seen := r.Spec.Replicas, r.Status.ObservedGeneration >= r.Metadata.Generation
	some := seen && r.Status.AvailableReplicas > 0
	if seen && r.Status.UpdatedReplicas >= want && r.Status.AvailableReplicas >= want &&
		r.Status.Replicas <= r.Status.UpdatedReplicas {
		return verdict{done: true, some: some, progress: fmt.Sprintf("%d of %d instances are ready", want, want)}
	}
	var steps []string
	ready := 0
	for _, p := range pods {
		if p.draining() {
			continue
		}
		if v := p.judge(now); v.failure != nil {
			v.some = some
			return v
		} else if v.progress != "" {
			steps = append(steps, v.progress)
		}
		if p.condition("Ready").Status == "True" {
			ready++
		}
	}
	slices.Sort(steps)
	text := fmt.Sprintf("%d of %d instances are ready", ready, want)
	if steps = slices.Compact(steps); len(steps) > 0 {
		text += ": " + strings.Join(steps, ", ")
	}
	return verdict{some: some, progress: text}
}

// judge says what a pod waits for, or why it will not run.
func (p pod) judge(now time.Time) verdict {
	fail := func(container, code, format string, args ...any) verdict {
		return verdict{failure: &Failure{Code: code, Message: fmt.Sprintf(format, args...)}, pod: p.Metadata.Name, container: container}
	}
	if p.Status.Reason == "Evicted" {
		return fail("", CodeNotReady, "The instance was evicted: %s", p.Status.Message)
	}
	if c := p.condition("PodScheduled"); c.Status == "False" && c.Reason == "Unschedulable" {
		if text := noRoom(c.Message); text != "" && now.Sub(c.LastTransitionTime) > unschedulable {
			return fail("", CodeQuota, "%s", text)
		}
		return verdict{progress: "looking for room"}
	}
	if s, ok := p.status(StorageInitializer); ok {
		if v, decided := p.judgeInitializer(s, fail); decided {
			return v
		}
	}
	s, ok := p.status(InferenceServer)
	if !ok {
		return verdict{progress: "starting"}
	}
	reason, message := s.waiting()
	if reason == "ErrImagePull" && hopeless().MatchString(message) {
		reason = "ImagePullBackOff" // which it will be
	}
	switch reason {
	case "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
		return fail("", CodeBad, "Unable to download user container image '%s': %s", s.Image, pullReason(message))
	case "CreateContainerConfigError", "CreateContainerError":
		return fail("", CodeNotReady, "The user container can't be made: %s", message)
	}
	if e := s.ended(); e != nil {
		if v := judgeEnd(s, e, fail); v.failure != nil {
			return v
		}
		return verdict{progress: fmt.Sprintf("starting the user container again (%d)", s.ends())}
	}
	switch {
	case p.condition("Ready").Status == "True":
		return verdict{}
	case s.State.Running != nil:
		return verdict{progress: "starting the user container"}
	case reason == "ErrImagePull":
		return verdict{progress: "pulling the image"}
	}
	return verdict{progress: "creating the user container"}
}

type failing func(container, code, format string, args ...any) verdict

// judgeInitializer looks at the container that downloads; decided says that
// nothing after it counts yet.
func (p pod) judgeInitializer(s containerStatus, fail failing) (verdict, bool) {
	if reason, message := s.waiting(); reason == "ErrImageNeverPull" || reason == "CreateContainerError" || reason == "CreateContainerConfigError" {
		return fail("", CodeInternal, "The storage initializer can't be started: %s %s", reason, message), true
	}
	e := s.ended()
	if s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
		return verdict{}, false
	}
	if e != nil && e.ExitCode != 0 && e.Reason != "Unknown" && s.ends() > 0 {
		text := strings.TrimSpace(e.Message)
		if text == "" {
			text = fmt.Sprintf("the storage initializer ended with exit code %d", e.ExitCode)
		}
		return fail(StorageInitializer, CodeBad, "Unable to download user model or code: %s", text), true
	}
	return verdict{progress: "downloading code and model"}, true
}

// judgeEnd says whether a server that ended is given up, and why.
func judgeEnd(s containerStatus, e *terminated, fail failing) verdict {
	switch {
	case e.Reason == "OOMKilled":
		return fail(InferenceServer, CodeNotReady, "User container was killed for lack of memory (OOMKilled): it needed more than its instance type has.")
	case e.Reason == "ContainerCannotRun", e.Reason == "StartError":
		return fail("", CodeNotReady, "User container can't be started: %s", e.Message)
	case e.Reason == "Unknown", e.Reason == "ContainerStatusUnknown": // its node was started again
		return verdict{}
	case e.ExitCode == exitInit:
		return fail(InferenceServer, CodeNotReady, "User container has crashed or terminated with exit code %d: the scoring script's init() failed.", e.ExitCode)
	case s.ends() >= crashes && e.ExitCode == exitKilled:
		return fail(InferenceServer, CodeNotReady, "User container was killed again and again: it did not answer its liveness probe, or its memory was not enough.")
	case s.ends() >= crashes:
		return fail(InferenceServer, CodeNotReady, "User container has crashed or terminated with exit code %d.", e.ExitCode)
	}
	return verdict{}
}

var lacking = pattern(`Insufficient (cpu|memory|ephemeral-storage)|Too many pods`)

// noRoom is what a scheduler's message means for who deploys; "" when a node may
// only not be ready yet.
func noRoom(message string) string {
	m := lacking().FindStringSubmatch(message)
	switch {
	case m == nil:
		return ""
	case m[1] == "":
		return fmt.Sprintf("The workspace's compute has no room for that many instances: it takes %d pods. Ask for fewer instances, or delete deployments.", maxPods)
	}
	return fmt.Sprintf("The workspace's compute has not enough %s left for an instance. Ask for fewer or smaller instances, or delete deployments.",
		strings.ReplaceAll(m[1], "ephemeral-storage", "disk"))
}

// hopeless matches what a registry says of an image that will not be there, or
// not for us, the next time either.
var hopeless = pattern(`no such host|: not found|manifest unknown|unauthorized|authorization failed|403 Forbidden|denied`)

// pullReason shortens what the container runtime says of an image.
func pullReason(message string) string {
	_, rest, ok := strings.Cut(message, "ErrImagePull: ")
	if ok {
		message = rest
	}
	if text, err := strconv.Unquote(message); err == nil {
		message = text
	}
	return strings.TrimSpace(message)
}

// raised matches the last line of an exception's or a panic's report.
var raised = pattern(`^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Fault)\b.*|panic: .*|fatal error: .*)$`)

// ended matches what our inference server says of a worker that was killed.
var ended = pattern(`The worker with pid \d+ ended before the user's init function had completed.*$`)

// What our inference server logs before and after a script's init(), in
// azureml-inference-server-http's words.
const initBegins, initEnds = "Invoking user's init function", "Users's init has completed successfully"

// reasonIn finds in a container's log what says why it ended.
func reasonIn(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	last := ""
	for _, l := range slices.Backward(lines) {
		l = strings.TrimSpace(strings.ToValidUTF8(l, "?"))
		if raised().MatchString(l) {
			return shortened(l, 400)
		}
		if said := ended().FindString(l); said != "" {
			return shortened(said, 400)
		}
		if last == "" {
			last = l
		}
	}
	if strings.LastIndex(log, initBegins) > strings.LastIndex(log, initEnds) {
		return "the scoring script's init() began and did not end"
	}
	return shortened(last, 400)
}
