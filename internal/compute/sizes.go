package compute

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// size is an instance type: how many processors and how much memory.
type size struct{ cpus, mib int }

// sizes are the instance types of managed online endpoints.
// Source: "Managed online endpoints SKU list", and the pages of the series.
func sizes() map[string]size {
	return map[string]size{
		"Standard_DS1_v2": {1, 3584}, "Standard_DS2_v2": {2, 7168}, "Standard_DS3_v2": {4, 14336}, "Standard_DS4_v2": {8, 28672}, "Standard_DS5_v2": {16, 57344},
		"Standard_F2s_v2": {2, 4096}, "Standard_F4s_v2": {4, 8192}, "Standard_F8s_v2": {8, 16384}, "Standard_F16s_v2": {16, 32768},
		"Standard_F32s_v2": {32, 65536}, "Standard_F48s_v2": {48, 98304}, "Standard_F64s_v2": {64, 131072}, "Standard_F72s_v2": {72, 147456},
		"Standard_E2s_v3": {2, 16384}, "Standard_E4s_v3": {4, 32768}, "Standard_E8s_v3": {8, 65536}, "Standard_E16s_v3": {16, 131072},
		"Standard_E32s_v3": {32, 262144}, "Standard_E48s_v3": {48, 393216}, "Standard_E64s_v3": {64, 442368},
		"Standard_FX4mds": {4, 86016}, "Standard_FX12mds": {12, 258048}, "Standard_FX24mds": {24, 516096}, "Standard_FX36mds": {36, 774144}, "Standard_FX48mds": {48, 1032192},
	}
}

// InstanceTypes are the names of the known ones, in order.
func InstanceTypes() []string { return slices.Sorted(maps.Keys(sizes())) }

// sizeOf finds an instance type, in any case.
func sizeOf(name string) (size, bool) {
	for n, s := range sizes() {
		if strings.EqualFold(n, name) {
			return s, true
		}
	}
	return size{}, false
}

// KnownInstanceType reports whether deployments can ask for the type.
func KnownInstanceType(name string) bool {
	_, ok := sizeOf(name)
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
		s, ok := sizeOf(d.InstanceType)
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
