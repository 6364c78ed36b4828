package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

// insideCommand is the first argument by which this program is told to become
// a program inside a virtual network: a hidden command.
const insideCommand = "network-exec"

const (
	insideJobFD   = 3 // where the job is read
	insideSpaceFD = 4 // the network namespace
)

// inside is a place in a virtual network, with a process of root's that waits
// for what it is to become there.
type inside struct {
	place *node.Place
	cmd   *exec.Cmd
	job   *os.File
	u     invoker
	at    server.NetworkAnswer
}

// insideJob is what the process becomes.
type insideJob struct {
	UID, GID int
	Groups   []int // nil: they stay
	Drop     bool  // UID, GID and Groups are taken on
	Resolver string
	Path     string
	Args     []string // with the name
	Env      []string
	Dir      string
}

// joinTime is how long it may take until there is a place.
const joinTime = 30 * time.Second

// runInside is run for `laz run`: where a network is named, root makes the
// place in it before the invoking user goes on.
func runInside(ctx context.Context, args []string, env Env) int {
	work := func(ctx context.Context, args []string, env Env) error { return runProgram(ctx, args, env) }
	quiet := env
	quiet.Stdout = io.Discard // of --help, which is printed later
	if o, err := runFlags(args, quiet); err == nil && o.network != "" && os.Geteuid() == 0 {
		in, err := enter(ctx, o.network, env)
		if err != nil {
			return run(func(context.Context, []string, Env) error { return err })(ctx, args, env)
		}
		defer in.close()
		env.inside = in
	}
	return run(work)(ctx, args, env)
}

// enter makes a place in a network; it needs root.
func enter(ctx context.Context, name string, env Env) (*inside, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	u, err := invoking()
	if err != nil {
		return nil, err
	}
	h, err := home(env)
	if err != nil {
		return nil, err
	}
	if _, err := endpoint(h); err != nil {
		return nil, err
	}
	in := &inside{u: u}
	if err := ask(ctx, h, "/v1/networks/find", server.NetworkRequest{Name: name}, &in.at); err != nil {
		return nil, err
	}
	agent, err := node.Dial(string(h))
	if err != nil {
		return nil, err
	}
	if in.place, err = agent.Join(ctx, in.at.UID, in.at.Subnet); err != nil {
		return nil, fmt.Errorf("joining the virtual network %s: %w", in.at.Name, err)
	}
	if err := in.start(env); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// start starts the process that waits, as root.
func (in *inside) start(env Env) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	in.cmd = exec.Command(self, insideCommand) // no context: it ends when it likes
	in.cmd.Stdin, in.cmd.Stdout, in.cmd.Stderr = env.Stdin, env.Stdout, env.Stderr
	in.cmd.ExtraFiles = []*os.File{r, in.place.Space}
	in.cmd.Env = []string{}
	if err := in.cmd.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	in.job = w
	return nil
}

// become tells the process what it is from now on.
func (in *inside) become(j insideJob) error {
	j.UID, j.GID, j.Groups, j.Drop, j.Resolver = in.u.uid, in.u.gid, in.u.groups, in.u.name != "", in.at.Resolver.String()
	err := json.NewEncoder(in.job).Encode(j)
	err = errors.Join(err, in.job.Close())
	in.job = nil
	return err
}

// close ends what is left in the place.
func (in *inside) close() {
	if in.job != nil {
		_ = in.job.Close() // a process without a job ends
		if in.cmd != nil && in.cmd.Process != nil {
			_ = in.cmd.Wait()
		}
	}
	_ = in.place.Space.Close()
	_ = in.place.Close() // the agent takes the rest away
}

// insideVariables are those of a program inside: names lead to Lazurite there,
// so there is no proxy, and none that the shell around has is of use.
func insideVariables(vars []variable, network string) (kept []variable, gone []string) {
	for _, v := range vars {
		switch v.name {
		case "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy":
			gone = append(gone, v.name)
		case "NO_PROXY", "no_proxy":
			kept = append(kept, variable{v.name, "*"})
		case "NODE_USE_ENV_PROXY":
			gone = append(gone, v.name)
		default:
			kept = append(kept, v)
		}
	}
	return append(kept, variable{"LAZ_NETWORK", network}), append(gone, "ALL_PROXY", "all_proxy")
}
