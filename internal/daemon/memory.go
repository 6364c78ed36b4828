package daemon

import (
	"context"
	"runtime/debug"
	"time"

	"lazurite.dev/internal/server"
)

const (
	// heapGrowth is how many percent the heap may grow before it is collected:
	// what lives in it is small, a few megabytes, so that collecting seldom
	// costs little memory and spares much CPU.
	heapGrowth = 400
	settled    = time.Second // after ready; what starting needed is then free
)

// tuneMemory sets the garbage collector for a server, unless the user has.
func tuneMemory(env Env) {
	if env.Getenv("GOGC") == "" && env.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// releaseMemory gives back what starting srv needed, once it has started.
func releaseMemory(ctx context.Context, srv *server.Server) {
	select {
	case <-ctx.Done():
		return
	case <-srv.Ready():
	}
	select {
	case <-ctx.Done():
	case <-time.After(settled):
		debug.FreeOSMemory()
		releaseProgram()
	}
}
