package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cgroup is one of the instance's, in every hierarchy that the machine has:
// one of version 2, or the many of version 1 (with the unified one beside
// them). Path is the same in all, as kubelet's cgroupRoot wants it.
type Cgroup struct {
	Path string // "/lazurite-INSTANCE/NAME"
	mine []hierarchy
}

// hierarchy is a mounted one.
type hierarchy struct {
	dir string
	v2  bool
}

// hierarchies are all that are mounted, each once.
func hierarchies() ([]hierarchy, error) {
	all, err := mountsOf("self")
	if err != nil {
		return nil, err
	}
	var out []hierarchy
	for _, m := range all {
		if (m.kind == "cgroup" || m.kind == "cgroup2") && strings.HasPrefix(m.target, "/sys/fs/cgroup") {
			out = append(out, hierarchy{dir: m.target, v2: m.kind == "cgroup2"})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no cgroups are mounted at /sys/fs/cgroup")
	}
	return out, nil
}

// CgroupVersion is 2 where /sys/fs/cgroup is of version 2, else 1.
func CgroupVersion() (int, error) {
	all, err := hierarchies()
	if err != nil {
		return 0, err
	}
	if len(all) == 1 && all[0].v2 {
		return 2, nil
	}
	return 1, nil
}

// instanceCgroup begins the path of every instance's own cgroup.
const instanceCgroup = "/lazurite-"

func (r Root) cgroup() string { return instanceCgroup + r.Instance }

// Cgroup makes the cgroup called name, which may have slashes, or finds it.
func (r Root) Cgroup(name string) (*Cgroup, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	c := &Cgroup{Path: filepath.Join(r.cgroup(), name), mine: all}
	for _, h := range all {
		err := h.make(c.Path, len(all) == 1)
		for range 3 {
			if errors.Is(err, os.ErrNotExist) { // the last other one was removed, and the instance's with it
				err = h.make(c.Path, len(all) == 1)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("making cgroup %s: %w", c.Path, err)
		}
	}
	return c, nil
}

// FindCgroup is the cgroup called name, whether it is there or not.
func (r Root) FindCgroup(name string) (*Cgroup, error) {
	all, err := hierarchies()
	return &Cgroup{Path: filepath.Join(r.cgroup(), name), mine: all}, err
}

// Cgroups are the names of the instance's cgroups.
func (r Root) Cgroups() ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var names []string
	for _, h := range all {
		entries, err := os.ReadDir(filepath.Join(h.dir, r.cgroup()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// make makes the path, each level ready for what is below it. On version 2 the
// controllers that clusters need must come down to it.
func (h hierarchy) make(path string, alone bool) error {
	dir := h.dir
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if h.v2 && alone {
			if err := delegate(dir); err != nil {
				return err
			}
		}
		above := dir
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if !h.v2 {
			if err := inheritCPUSet(above, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate lets those below dir use the controllers that dir has.
func delegate(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var needed, more []string
	for _, c := range strings.Fields(string(raw)) {
		switch c {
		case "cpu", "memory", "pids":
			needed = append(needed, "+"+c)
		case "cpuset", "io", "hugetlb":
			more = append(more, "+"+c)
		}
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	// Together: cpu alone would be taken where processes are, and make what is below a part of their cgroup.
	err = os.WriteFile(control, []byte(strings.Join(needed, " ")), 0)
	if errors.Is(err, syscall.EBUSY) { // cgroups(7), "no internal processes": all roots but the machine's own
		err = fmt.Errorf("processes are in %s itself, as in a container; they have to be in a cgroup below it: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("delegating controllers: %w", err)
	}
	for _, c := range more {
		_ = os.WriteFile(control, []byte(c), 0) // where they are not to be had, there are no limits of them
	}
	return nil
}

// inheritCPUSet fills in what a new cpuset of version 1 lacks, cpuset(7): no
// process can enter one without processors and memory nodes.
func inheritCPUSet(above, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			return nil // not the hierarchy of cpuset
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		from, err := os.ReadFile(filepath.Join(above, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), from, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Limit sets how much processor time (in thousandths of one) and memory all
// that is in the cgroup can have; 0 leaves one as it is.
func (c *Cgroup) Limit(cpuMillis, memoryMiB int) error {
	const period = 100_000 // microseconds
	for _, h := range c.mine {
		dir := filepath.Join(h.dir, c.Path)
		files := map[string]string{
			"cpu.cfs_quota_us":      strconv.Itoa(cpuMillis * period / 1000),
			"cpu.max":               fmt.Sprintf("%d %d", cpuMillis*period/1000, period),
			"memory.limit_in_bytes": strconv.Itoa(memoryMiB << 20),
			"memory.max":            strconv.Itoa(memoryMiB << 20),
		}
		for name, value := range files {
			if strings.HasPrefix(name, "cpu.") && cpuMillis == 0 || strings.HasPrefix(name, "memory.") && memoryMiB == 0 {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				continue // another hierarchy's
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
				return fmt.Errorf("limiting cgroup %s: %w", c.Path, err)
			}
		}
	}
	return nil
}

// procs are the files through which a process enters.
func (c *Cgroup) procs() []string {
	var out []string
	for _, h := range c.mine {
		out = append(out, filepath.Join(h.dir, c.Path, "cgroup.procs"))
	}
	return out
}

// gone says that a cgroup went while it was looked at: a file of it that was
// open by then answers ENODEV.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

// tree calls f for each folder of the cgroup, those below first.
func (c *Cgroup) tree(f func(dir string) error) error {
	for _, h := range c.mine {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(h.dir, c.Path), func(path string, d fs.DirEntry, err error) error {
			if gone(err) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := f(dirs[i]); err != nil && !gone(err) {
				return err
			}
		}
	}
	return nil
}

// Processes are those in the cgroup and below it, in any hierarchy.
func (c *Cgroup) Processes() ([]int, error) {
	seen := map[int]bool{}
	err := c.tree(func(dir string) error {
		raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, s := range strings.Fields(string(raw)) {
			if pid, ok := number(s); ok && pid > 0 {
				seen[pid] = true
			}
		}
		return err
	})
	var pids []int
	for pid := range seen {
		pids = append(pids, pid)
	}
	return pids, err
}

// Kill kills every process in the cgroup and below it, paused ones too, and
// returns when they are gone.
func (c *Cgroup) Kill(ctx context.Context) error {
	thaw := func(dir string) error {
		for name, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				// The root of a hierarchy has none; who can't be thawed can't be killed, which is told.
				_ = os.WriteFile(filepath.Join(dir, name), []byte(value), 0)
			}
		}
		return nil
	}
	if err := c.tree(thaw); err != nil {
		return err
	}
	return killAll(ctx, "cgroup "+c.Path, c.Processes)
}

// busyFor is how long a cgroup may stay busy after its last process: on a
// loaded machine the kernel takes its time to let go of one.
const busyFor = 10 * time.Second

// Remove kills what is in the cgroup and removes it with all below it.
func (c *Cgroup) Remove(ctx context.Context) error {
	deadline := time.Now().Add(busyFor)
	for {
		if err := c.Kill(ctx); err != nil {
			return err
		}
		err := c.tree(os.Remove)
		if err == nil {
			c.removeAbove()
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("removing cgroup %s: %w", c.Path, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("removing cgroup %s: %w", c.Path, errors.Join(err, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// removeAbove removes the instance's own cgroup with the last one in it.
func (c *Cgroup) removeAbove() {
	above := filepath.Dir(c.Path)
	if !strings.HasPrefix(above, instanceCgroup) || filepath.Dir(above) != "/" {
		return
	}
	for _, h := range c.mine {
		_ = syscall.Rmdir(filepath.Join(h.dir, above)) // there are others in it
	}
}
