package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// size is what a node's kubelet takes for its machine.
type size struct{ cpus, mib int }

// processors are the numbers of those that the machine has.
func processors() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(1, &set); err != nil { // of the machine's first process: ours may be confined
		return nil, fmt.Errorf("counting processors: %w", err)
	}
	var all []int
	for i := 0; len(all) < set.Count(); i++ {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}

// machine is how many processors and how much memory there are.
func machine() (size, error) {
	cpus, err := processors()
	if err != nil {
		return size{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return size{}, fmt.Errorf("measuring memory: %w", err)
	}
	return size{len(cpus), int(info.Totalram * uint64(info.Unit) >> 20)}, nil
}

// pretended is the machine as the node has to see it: as it is, and where the
// node is larger, as large as that. A node of four processors then takes the
// pods that it takes elsewhere; on two real ones they share.
func (s size) pretended(n node.Node) size {
	if n.MemoryMiB > s.mib {
		s.mib = n.MemoryMiB + evictMiB
	}
	return size{max(s.cpus, (n.CPUMillis+999)/1000), s.mib}
}

// Where the kubelet learns how large its machine is.
const (
	cpuFolder  = "/sys/devices/system/cpu"
	numaFolder = "/sys/devices/system/node"
	memoryFile = "/proc/meminfo"
)

// memTotal is the line of proc_meminfo(5) that is meant.
var memTotal = regexp.MustCompile(`(?m)^MemTotal:.*$`)

// sizeMounts are what makes a machine of the size real look like want in the
// node's tree; they come from the folder dir.
func sizeMounts(dir string, real, want size) ([]box.Mount, error) {
	var mounts []box.Mount
	if want.mib > real.mib {
		raw, err := os.ReadFile(memoryFile)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "meminfo")
		raw = memTotal.ReplaceAll(raw, []byte("MemTotal:       "+strconv.Itoa(want.mib<<10)+" kB"))
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, box.Mount{Source: path, Target: memoryFile, ReadOnly: true})
	}
	if want.cpus > real.cpus {
		cpus, none := filepath.Join(dir, "cpu"), filepath.Join(dir, "numa")
		if err := os.MkdirAll(none, 0o755); err != nil {
			return nil, err
		}
		if err := cpuFiles(cpus, want.cpus); err != nil {
			return nil, err
		}
		mounts = append(mounts, box.Mount{Source: cpus, Target: cpuFolder, ReadOnly: true}, box.Mount{Source: none, Target: numaFolder, ReadOnly: true})
	}
	return mounts, nil
}

// cpuFiles are the folder cpuFolder of a machine with n processors of one
// socket: what readers of its topology look for. Those that the machine does
// not have are real ones under a longer name, cpu00 for cpu0: whoever counts
// finds n, whoever takes the numbers, for a cpuset, gets some that exist.
func cpuFiles(dir string, n int) error {
	real, err := processors()
	if err != nil {
		return err
	}
	files := map[string]string{}
	for _, name := range []string{"online", "possible", "present"} {
		raw, err := os.ReadFile(filepath.Join(cpuFolder, name))
		if err != nil {
			return err
		}
		files[name] = string(raw)
	}
	for i := range n {
		name := "cpu" + strings.Repeat("0", i/len(real)) + strconv.Itoa(real[i%len(real)])
		files[filepath.Join(name, "topology", "core_id")] = strconv.Itoa(i) + "\n"
		files[filepath.Join(name, "topology", "physical_package_id")] = "0\n"
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// The ways in which layers of images are laid over each other, as containerd calls them.
const (
	overlay = "overlayfs"
	copies  = "native" // each layer a whole copy
)

// snapshots is how the file system of the folder dir lets layers be laid over
// each other: one that is an overlay itself, as in a container, does not
// carry another.
func snapshots(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("looking at the file system of %s: %w", dir, err)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return copies, nil
	}
	return overlay, nil
}
