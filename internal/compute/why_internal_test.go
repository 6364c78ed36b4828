package compute

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPodJudge(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 1, 0, 0, time.UTC)
	for name, c := range map[string]struct{ pod, code, text, progress string }{
		"no room":              {`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu.","lastTransitionTime":"2030-01-01T00:00:00Z"}]}`, CodeQuota, "not enough cpu", ""},
		"too many":             {`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Too many pods.","lastTransitionTime":"2030-01-01T00:00:00Z"}]}`, CodeQuota, "110 pods", ""},
		"no room for a moment": {`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"1 Insufficient cpu.","lastTransitionTime":"2030-01-01T00:00:58Z"}]}`, "", "", "room"},
		"the node comes up":    {`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"1 node(s) had untolerated taint","lastTransitionTime":"2030-01-01T00:00:00Z"}]}`, "", "", "room"},
		"evicted":              {`{"phase":"Failed","reason":"Evicted","message":"low on disk"}`, CodeNotReady, "low on disk", ""},
		"download failed":      {`{"initContainerStatuses":[{"name":"storage-initializer","restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":1,"message":"no blob"}}}]}`, CodeBad, "no blob", ""},
		"download goes on":     {`{"initContainerStatuses":[{"name":"storage-initializer","state":{"running":{}}}],"containerStatuses":[{"name":"inference-server","state":{"waiting":{"reason":"PodInitializing"}}}]}`, "", "", "downloading"},
		"no program":           {`{"initContainerStatuses":[{"name":"storage-initializer","state":{"waiting":{"reason":"ErrImageNeverPull","message":"m"}}}]}`, CodeInternal, "m", ""},
		"first pull":           {`{"containerStatuses":[{"name":"inference-server","image":"x","state":{"waiting":{"reason":"ErrImagePull"}}}]}`, "", "", "pulling"},
		"pull refused":         {`{"containerStatuses":[{"name":"inference-server","image":"x","state":{"waiting":{"reason":"ErrImagePull","message":"failed to resolve: x: not found"}}}]}`, CodeBad, "not found", ""},
		"no image":             {`{"containerStatuses":[{"name":"inference-server","image":"x:1","state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"x:1\": ErrImagePull: \"not \\\"there\\\"\""}}}]}`, CodeBad, `'x:1': not "there"`, ""},
		"bad command":          {`{"containerStatuses":[{"name":"inference-server","restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":128,"reason":"StartError","message":"no such file"}}}]}`, CodeNotReady, "no such file", ""},
		"config":               {`{"containerStatuses":[{"name":"inference-server","state":{"waiting":{"reason":"CreateContainerConfigError","message":"runs as root"}}}]}`, CodeNotReady, "runs as root", ""},
		"init raised":          {`{"containerStatuses":[{"name":"inference-server","state":{"terminated":{"exitCode":3,"reason":"Error"}}}]}`, CodeNotReady, "init() failed", ""},
		"memory":               {`{"containerStatuses":[{"name":"inference-server","restartCount":1,"state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}`, CodeNotReady, "OOMKilled", ""},
		"one crash":            {`{"containerStatuses":[{"name":"inference-server","restartCount":1,"state":{"running":{}},"lastState":{"terminated":{"exitCode":1,"reason":"Error"}}}]}`, "", "", "again (1)"},
		"two crashes":          {`{"containerStatuses":[{"name":"inference-server","restartCount":1,"state":{"terminated":{"exitCode":1,"reason":"Error"}}}]}`, CodeNotReady, "exit code 1", ""},
		"killed twice":         {`{"containerStatuses":[{"name":"inference-server","restartCount":2,"state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"reason":"Error"}}}]}`, CodeNotReady, "liveness probe", ""},
		"the node was off":     {`{"containerStatuses":[{"name":"inference-server","restartCount":3,"state":{"running":{}},"lastState":{"terminated":{"exitCode":255,"reason":"Unknown"}}}]}`, "", "", "again"},
		"starting":             {`{"containerStatuses":[{"name":"inference-server","state":{"running":{}}}]}`, "", "", "starting the user container"},
		"ready":                {`{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"inference-server","ready":true,"state":{"running":{}}}]}`, "", "", ""},
		"nothing yet":          {`{}`, "", "", "starting"},
	} {
		v := decode[pod](t, `{"metadata":{"name":"p"},"status":`+c.pod+`}`).judge(now)
		switch {
		case c.code == "" && v.failure != nil:
			t.Errorf("%s: got %v", name, v.failure)
		case c.code == "" && !strings.Contains(v.progress, c.progress):
			t.Errorf("%s: got %q", name, v.progress)
		case c.code != "" && (v.failure == nil || v.failure.Code != c.code || !strings.Contains(v.failure.Message, c.text)):
			t.Errorf("%s: got %v", name, v.failure)
		}
	}
}

func TestJudge_DoneWhenTheOldOnesAreGone(t *testing.T) {
	for text, want := range map[string]bool{
		`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"availableReplicas":2}}`: true,
		`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":1,"replicas":2,"updatedReplicas":2,"availableReplicas":2}}`: false,
		`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":2,"availableReplicas":3}}`: false,
		`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"availableReplicas":1}}`: false,
		`{"metadata":{"generation":1},"spec":{"replicas":1}}`: false,
	} {
		if v := judge(decode[rollout](t, text), nil, time.Now()); v.done != want {
			t.Errorf("%s: got %v", text, v.done)
		}
	}
}

func TestReasonIn(t *testing.T) {
	for log, want := range map[string]string{
		"a\nTraceback (most recent call last):\n  File \"x\"\nFileNotFoundError: [Errno 2] no 'm.pkl'\nworker ends\n": "FileNotFoundError: [Errno 2] no 'm.pkl'",
		"x\nsklearn.exceptions.NotFittedError: not fitted\n":                                                          "sklearn.exceptions.NotFittedError: not fitted",
		"goroutine\npanic: runtime error: index\n\ngoroutine 1 [running]:\n":                                          "panic: runtime error: index",
		"one\nlast words\n\n": "last words",
		"t I [6] u - Invoking user's init function\nServer Routes\nScore: POST\n":                                                      "the scoring script's init() began and did not end",
		"t I [6] u - Invoking user's init function\nt I [6] u - Users's init has completed successfully\nstopping\n":                   "stopping",
		"t E [1] gunicorn.error - The worker with pid 7 ended before the user's init function had completed. More memory.\nShutting\n": "The worker with pid 7 ended before the user's init function had completed. More memory.",
		"": "",
	} {
		if got := reasonIn(log); got != want {
			t.Errorf("%q: got %q", log, got)
		}
	}
}

func FuzzReasonIn(f *testing.F) {
	f.Add("Traceback\nValueError: x\n")
	f.Fuzz(func(t *testing.T, log string) {
		if got := reasonIn(log); len(got) > 400 || strings.Contains(got, "\n") {
			t.Errorf("got %q", got)
		}
	})
}
