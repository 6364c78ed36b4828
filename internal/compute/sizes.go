package compute

import "fmt"

// What of an instance's size is kept free for it: a machine is smaller than a
// region, and instances that wait for requests need little. The whole size is
// the limit of what an instance may use.
const (
	keptShare = 16
	leastCPU  = 20 // thousandths
	leastMiB  = 64

	// diskShare of the machine's disk is what one instance may write at most, of
	// whatever type: all workspaces' nodes, and all else, are on the same one.
	diskShare = 4
)

// resources are what an instance of d may use, and what is kept for it, as
// Kubernetes takes them. diskMiB is what one instance gets at most.
func (d Deployment) resources(diskMiB int) map[string]any {
	of := func(cpuMillis, memoryMiB, diskMiB int) map[string]any {
		m := map[string]any{"cpu": fmt.Sprintf("%dm", cpuMillis), "memory": fmt.Sprintf("%dMi", memoryMiB)}
		if diskMiB > 0 {
			m["ephemeral-storage"] = fmt.Sprintf("%dMi", diskMiB)
		}
		return m
	}
	disk := d.disk(diskMiB)
	return map[string]any{
		"limits":   of(d.CPUMillis, d.MemoryMiB, disk),
		"requests": of(kept(d.CPUMillis, leastCPU), kept(d.MemoryMiB, leastMiB), kept(disk, leastMiB)),
	}
}

func kept(all, least int) int { return min(max(all/keptShare, least), all) }

// disk is what an instance may write, in MiB: what is written by its
// containers, into its folders and to its log. 0 is no limit.
func (d Deployment) disk(most int) int {
	if d.DiskMiB == 0 || most == 0 {
		return max(d.DiskMiB, most)
	}
	return min(d.DiskMiB, most)
}
