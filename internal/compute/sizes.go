package compute

import (
	"fmt"
	"slices"
	"strings"
)

// size is an instance type: how many processors and how much memory.
type size struct{ cpus, mib int }

// sizes are the instance types of managed online endpoints, in lower case.
// Source: "Managed online endpoints SKU list", and the pages of the series.
func sizes() map[string]size {
	return map[string]size{
		"standard_ds1_v2": {1, 3584}, "standard_ds2_v2": {2, 7168}, "standard_ds3_v2": {4, 14336}, "standard_ds4_v2": {8, 28672}, "standard_ds5_v2": {16, 57344},
		"standard_f2s_v2": {2, 4096}, "standard_f4s_v2": {4, 8192}, "standard_f8s_v2": {8, 16384}, "standard_f16s_v2": {16, 32768},
		"standard_f32s_v2": {32, 65536}, "standard_f48s_v2": {48, 98304}, "standard_f64s_v2": {64, 131072}, "standard_f72s_v2": {72, 147456},
		"standard_e2s_v3": {2, 16384}, "standard_e4s_v3": {4, 32768}, "standard_e8s_v3": {8, 65536}, "standard_e16s_v3": {16, 131072},
		"standard_e32s_v3": {32, 262144}, "standard_e48s_v3": {48, 393216}, "standard_e64s_v3": {64, 442368},
		"standard_fx4mds": {4, 86016}, "standard_fx12mds": {12, 258048}, "standard_fx24mds": {24, 516096}, "standard_fx36mds": {36, 774144}, "standard_fx48mds": {48, 1032192},
	}
}

// InstanceTypes are the names of the known ones.
func InstanceTypes() []string {
	var names []string
	for n := range sizes() {
		names = append(names, "S"+strings.TrimPrefix(strings.ToUpper(n), "S"))
	}
	slices.Sort(names)
	return names
}

// KnownInstanceType reports whether deployments can ask for the type.
func KnownInstanceType(name string) bool {
	_, ok := sizes()[strings.ToLower(name)]
	return ok
}

// What of an instance type's size is kept free for each instance: a machine is
// smaller than a region, and instances that wait for requests need little. The
// whole size is the limit of what an instance may use.
const (
	cpuShare    = 16
	memoryShare = 16
	leastCPU    = 20 // thousandths
	leastMiB    = 64
)

// room is what an instance of d may use and what is kept for it.
func (d Deployment) room() (cpuMillis, mib, keptMillis, keptMiB int, err error) {
	cpuMillis, mib = d.CPUMillis, d.MemoryMiB
	if cpuMillis == 0 || mib == 0 {
		s, ok := sizes()[strings.ToLower(d.InstanceType)]
		if !ok {
			return 0, 0, 0, 0, &Failure{Code: CodeBad, Message: fmt.Sprintf("The instance type %q is not known. The known ones are: %s.", d.InstanceType, strings.Join(InstanceTypes(), ", "))}
		}
		if cpuMillis == 0 {
			cpuMillis = s.cpus * 1000
		}
		if mib == 0 {
			mib = s.mib
		}
	}
	return cpuMillis, mib, min(max(cpuMillis/cpuShare, leastCPU), cpuMillis), min(max(mib/memoryShare, leastMiB), mib), nil
}
