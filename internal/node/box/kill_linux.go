package box

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// killTime is how long processes may take to be gone once they are killed.
const killTime = 15 * time.Second

// killAll kills what list names until it names nothing: who is killed may have
// started others meanwhile.
func killAll(ctx context.Context, what string, list func() ([]int, error)) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, err := list()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d of %s: %w", pid, what, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: processes %v have been killed and are still there: %w", what, pids, ctx.Err())
		case <-tick.C:
		}
	}
}

func number(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}
