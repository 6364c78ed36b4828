package server

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/environment"
)

const (
	unknownMemory = 4096 // MiB, where the machine doesn't say
	leastMemory   = 1024
)

// computes runs the deployments of machine learning.
func (s *system) computes(context.Context) error {
	driver, err := s.drivers.Named(ClustersEmbedded)
	if err != nil {
		return err
	}
	if s.Config.Clusters == ClustersIssuer {
		driver = noComputes{driver}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s.compute = compute.New(compute.Config{
		Driver: driver, Agent: s.Config.Nodes, Issuers: s.issuers, Store: s.Store, Seal: s.keyring, Grants: s.metadata, Log: s.Config.Log,
		Likely:  s.likelyImages,
		Trust:   func() ([]byte, error) { return os.ReadFile(s.CA.BundleFile()) },
		Program: program, Folder: s.Home.Compute(), CPUMillis: runtime.NumCPU() * 1000, MemoryMiB: max(memoryMiB()*3/4, leastMemory), DiskMiB: diskMiB(string(s.Home)),
	})
	s.worker(s.compute.Run)
	return nil
}

// likelyImages is the archive with the image of the environment that the samples
// name, where there is one.
func (s *system) likelyImages(ctx context.Context) []string {
	r, err := environment.New(s.Config.Environments, environment.Built{}).Resolve(ctx, environment.Environment{Name: "sample", Image: sampleImage})
	if err != nil || r.Archive == "" {
		return nil // who deploys hears of it
	}
	return []string{r.Archive}
}

// sampleImage is what the samples' environments are built on.
// Source: azureml-examples, cli/endpoints/online/managed/sample.
const sampleImage = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"

// noComputes is a driver that the operator has ruled out.
type noComputes struct{ cluster.Driver }

// Offer implements cluster.Driver.
func (noComputes) Offer(context.Context) ([]string, error) {
	return nil, cluster.Unavailable("this Lazurite was started with --clusters %s, so nothing can run deployments", ClustersIssuer)
}

// memoryMiB is how much memory the machine has, by proc_meminfo(5).
func memoryMiB() int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return unknownMemory
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int
		if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); err == nil {
			return kib >> 10
		}
	}
	return unknownMemory
}

// diskMiB is the size of the disk that a folder is on; 0 where it doesn't say.
func diskMiB(dir string) int {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return int(st.Blocks * uint64(st.Bsize) >> 20) // the type of Bsize differs between systems
}
