// Package agent is the node agent: the one process of Lazurite that has root.
// It makes clusters, keeps their processes running, and answers the server's
// typed questions at a unix socket to which only the user who owns the state
// folder has access.
//
// Who keeps whom alive is as simple as it can be. The agent restarts all
// processes of clusters, and a keeper ([Keep]), which does nothing else,
// restarts the agent when it is killed. The agent remembers what clusters
// should be, and one that starts brings up again what should run. When it is
// killed, the kernel kills the programs that it started; the containers and the
// processes that carry them live on, and the next agent's kubelet takes them
// over. With the keeper killed too there is `sudo laz up`. The server may come
// and go as it likes.
package agent

import "net/netip"

// The first arguments by which this program is told to be [Run] and [Exec]:
// hidden commands.
const (
	Command     = "node-agent"
	ExecCommand = "node-exec"
)

// GoFD is the file descriptor at which a new keeper waits for a byte before it
// does anything: until the state folder is there. At its end without one the
// keeper ends too. The agent writes one there when it answers, and closes it
// either way.
const GoFD = 3

// Options are what an agent is started with, by root.
type Options struct {
	Home    string       // the state folder
	Owner   int          // the user who may ask it
	Kube    []string     // folders where the distribution may be, the best first
	Range   netip.Prefix // of clusters
	Version string       // of the program
	// Idle leaves clusters as they are until asked: it was started to take
	// things away.
	Idle bool
}
